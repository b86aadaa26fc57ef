//! Evidence -> what to probe next. Pure: it attaches nothing and asks no clock.

pub mod budget;
pub mod counted;
pub mod pins;
pub mod windows;
