//! The demo session on Debian 12's kernel, which has no link for many probes at once: one guest, one boot.
//!
//! Under emulation the rates are no truth; what is found, named and put back is. The guest checks the instructions itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use tracer_tests::go::{Go, Mode};
use tracer_tests::live;
use tracer_tests::scratch::Scratch;
use xtask::vm::{self, Guest};

const KERNEL: &str = "6.1";

/// What the guest runs. The text of the target is compared with its file before, while and after it is traced.
const SCRIPT: &str = r#"
demo=$(ls | grep '^demo-')
"./$demo" > /tmp/demo.out & target=$!
while ! grep -q ready /tmp/demo.out; do sleep 0.2; done
changed() {
  read -r range perms offset rest <<END
$(grep ' r-xp ' /proc/$target/maps | grep "$demo" | head -n 1)
END
  start=$((0x${range%-*} / 4096)); count=$((0x${range#*-} / 4096 - start)); skip=$((0x$offset / 4096))
  dd if=/proc/$target/mem bs=4096 skip=$start count=$count of=/tmp/memory 2>/dev/null
  dd if="$demo" bs=4096 skip=$skip count=$count of=/tmp/file 2>/dev/null
  [ "$(stat -c %s /tmp/memory)" -ge 65536 ] || echo "short read"
  cmp -l /tmp/memory /tmp/file 2>/dev/null | grep -c .
}
echo "CHANGED-BEFORE $(changed)"
tracer --pid $target --sampler all --until verdict --format json -o /tmp/report.json 2> /tmp/tracer.err & session=$!
while ! grep -q attached /tmp/tracer.err && kill -0 $session 2>/dev/null; do sleep 0.2; done
echo "CHANGED-DURING $(changed)"
wait $session; status=$?
cat /tmp/tracer.err
echo "CHANGED-AFTER $(changed)"
tracer --pid $target --sampler sampled --sample-bytes 4KiB --duration 8s --format json -o /tmp/sampled.json 2>&1
echo "CHANGED-LAST $(changed)"
sleep 1; kill -0 $target && echo ALIVE
kill $target
echo "SAMPLED $(tr -d '\n' < /tmp/sampled.json)"
echo "REPORT $(tr -d '\n' < /tmp/report.json)"
exit $status
"#;

#[test]
fn the_demo_is_judged_on_debians_kernel() {
    live!(Root, Go, Packages);
    let scratch = Scratch::new("vm");
    let tracer = scratch.file("tracer");
    fs::copy(xtask::dist::build().unwrap_or_else(|error| panic!("{error:#}")), &tracer).unwrap();
    fs::set_permissions(&tracer, fs::Permissions::from_mode(0o755)).unwrap();
    let demo = Go::demo().build("demo", Mode::Ordinary);
    let guest =
        Guest { kernel: KERNEL, command: SCRIPT, files: &[tracer, demo], limit: Duration::from_mins(10) };
    let outcome = vm::run(&guest).unwrap_or_else(|error| panic!("{error:#}"));
    let said = &outcome.output;
    assert!(outcome.kernel.starts_with("6.1."), "{}", outcome.kernel);
    assert_eq!(outcome.status, 0, "{said}");

    let value = |mark: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(mark));
        line.unwrap_or_else(|| panic!("no {mark} in {said}")).trim().to_owned()
    };
    assert_eq!(value("CHANGED-BEFORE "), "0", "{said}");
    assert!(value("CHANGED-DURING ").parse::<u32>().is_ok_and(|count| count >= 3), "{said}");
    assert_eq!(value("CHANGED-AFTER "), "0", "{said}");
    assert_eq!(value("CHANGED-LAST "), "0", "{said}");
    assert!(said.contains("ALIVE"), "{said}");

    let sampled: Value =
        serde_json::from_str(&value("SAMPLED ")).unwrap_or_else(|error| panic!("{error}\n{said}"));
    // A goroutine may change while an emulated processor reads it: that is counted and harms no figure. Nothing else is lost.
    let lost = sampled["session"]["counters"].as_object().unwrap();
    assert_eq!(lost.keys().find(|name| *name != "goroutine_torn"), None, "{sampled:#}");
    let leak = sampled["allocations"].as_array().unwrap().iter().find(|row| row["type"] == "main.session");
    assert!(leak.is_some_and(|row| row["samples"].as_u64() > Some(10)), "{sampled:#}");

    let report: Value =
        serde_json::from_str(&value("REPORT ")).unwrap_or_else(|error| panic!("{error}\n{said}"));
    assert_eq!(report["session"]["attach"], "single");
    assert_eq!(report["session"]["events"]["undecodable"], 0);
    let findings = report["findings"].as_array().unwrap();
    let of = |rule: &str| -> String {
        findings.iter().filter(|finding| finding["rule"] == rule).map(ToString::to_string).collect()
    };
    assert!(of("heap-growth").contains("main.(*sessionCache).put"), "{report:#}");
    assert!(of("goroutine-growth").contains("main.startWorker"), "{report:#}");
    for honest in ["priceCache", "receiptPool", "workerPool", "audit"] {
        assert!(!report["findings"].to_string().contains(honest), "{honest} is accused: {report:#}");
    }
}
