//! How the kernel schedules a thread of tracer's.
//!
//! Apart because it is one unsafe system call, made without the C library, for musl's function of that name only refuses
//! (src/sched/sched_setscheduler.c). A thread that reads sleeps some thousand times a second, so as to leave the target's
//! locks alone, and each time it wakes up it would interrupt whoever runs where it slept: often the target. A thread of
//! SCHED_BATCH never does (kernel/sched/fair.c, check_preempt_wakeup_fair); its share of a processor stays what it was, and
//! no privilege is needed to go there.

/// From now on this thread interrupts nobody when it wakes up. Where a sandbox refuses, it goes on as before.
pub fn wait_for_others() {
    // The kernel's struct sched_param (include/uapi/linux/sched/types.h): the priority alone, 0 for all but real-time policies.
    let param: libc::c_int = 0;
    // SAFETY: the pointer is to a live value of the type that the call reads, and it keeps nothing. 0 is this thread.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const param) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_waits_and_the_others_do_not() {
        // SAFETY: it takes a number and gives one; 0 is this thread.
        let policy = || unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
        let before = policy();
        let there = std::thread::spawn(move || {
            wait_for_others();
            policy()
        });
        assert_eq!(there.join().unwrap(), libc::c_long::from(libc::SCHED_BATCH));
        assert_eq!(policy(), before);
    }
}
