//! scratch
use tracer_user::{
    binary::{file::FileBytes, x86::Emulates},
    goruntime::{
        GoImage,
        code::{exits::exit_sites, hooks::alloc_hooks},
    },
};
fn main() {
    for path in std::env::args().skip(1) {
        let file = std::fs::File::open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        let image = GoImage::open(Box::new(FileBytes::new(file)), len).unwrap();
        for long_nops in [true, false] {
            for hook in alloc_hooks(&image).hooks {
                match exit_sites(&image, &hook.function, Emulates { long_nops }) {
                    Ok(sites) => {
                        for s in sites {
                            println!(
                                "{} {long_nops} {} -> {}+{:#x} {:?} {:?} callee={}",
                                path.rsplit('/').next().unwrap(),
                                hook.function,
                                s.function,
                                s.offset,
                                s.instruction,
                                s.place,
                                s.in_callee
                            );
                        }
                    }
                    Err(e) => println!("{} {long_nops} REFUSED {} {e}", path, hook.function),
                }
            }
        }
    }
}
