//! Running other programs: one way to start them, one wording when they fail. It never goes through a shell.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs to the end with this process's stderr; what the program prints on stdout goes to stderr as well, because stdout belongs to
/// the task's own result.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end and shows its output only when it failed.
pub fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs to the end and returns its stdout without the last line break.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        let said = [tail(&stdout), tail(&stderr)].concat();
        bail!("{} ended with {status}\n{}", shown(command), said.trim_end());
    }
    let text = String::from_utf8(stdout)
        .with_context(|| format!("{} printed bytes that are not text", shown(command)))?;
    Ok(text.trim_end().to_owned())
}

/// True where the program starts and ends with success; it is asked something harmless, such as its version.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The full path of a program on PATH, or in the folders of the system administrator, which a root shell may lack.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    match file.metadata() {
        Ok(found) => found.is_file() && found.permissions().mode() & 0o111 != 0,
        Err(error) => {
            debug_assert!(error.kind() != ErrorKind::InvalidInput, "a path built from PATH holds no NUL");
            false
        }
    }
}

/// True for the administrator.
pub fn is_root() -> bool {
    // /proc/self is owned by the effective user.
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    format!("`{}`", words.join(" "))
}

fn tail(bytes: &[u8]) -> String {
    const SHOWN_LINES: usize = 30;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    let mut shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_trimmed_and_failure_carries_what_was_said() {
        assert_eq!(output(Command::new("echo").arg("one")).unwrap(), "one");
        let error =
            output(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("reason"), "{error}");
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
    }
}
