//! Counters of losses in recordings: by their wire number, which is never reused. Apart because the contract with
//! the kernel side knows no serde. A number that is not known here makes its record one of a newer tracer.

use tracer_common::counter::Counter;

fn of_number(number: u32) -> Option<Counter> {
    Counter::ALL.into_iter().find(|counter| *counter as u32 == number)
}

/// One counter.
pub(super) mod one {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    use super::{Counter, of_number};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(in crate::record) fn serialize<S: Serializer>(counter: &Counter, to: S) -> Result<S::Ok, S::Error> {
        (*counter as u32).serialize(to)
    }

    pub(in crate::record) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Counter, D::Error> {
        of_number(u32::deserialize(from)?).ok_or_else(|| D::Error::custom("an unknown counter"))
    }
}

/// Counters with their counts.
pub(super) mod all {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{Counter, of_number};

    pub(in crate::record) fn serialize<S: Serializer>(
        losses: &[(Counter, u64)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(losses.iter().map(|(counter, count)| (*counter as u32, *count)))
    }

    pub(in crate::record) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(Counter, u64)>, D::Error> {
        let numbered = Vec::<(u32, u64)>::deserialize(from)?;
        let known = numbered.into_iter().map(|(number, count)| Some((of_number(number)?, count)));
        known.collect::<Option<_>>().ok_or_else(|| D::Error::custom("an unknown counter"))
    }
}
