//! The shared types are plain old data: what the user side writes into a map is what the kernel side reads.

use crate::{
    control::{PinControl, TargetControl, Times},
    key::{AllocKey, AllocValue, GoKey, GoValue, MapKey, Pending, PendingKey},
};

macro_rules! pod {
    ($($t:ty),*) => {$(
        // SAFETY: repr(C), integers and integer arrays only, no padding (asserted by size in the type's file
        // or visible in it), every bit pattern valid.
        unsafe impl aya::Pod for $t {}
    )*};
}
pod!(TargetControl, PinControl, Times, AllocKey, AllocValue, MapKey, GoKey, GoValue, PendingKey, Pending);
