//! `timestamptz` on the wire, for every stamp that a source may send.
//!
//! A ready-made timestamp type cannot name the last two days of the year 9999, nor `-infinity`, and
//! Microsoft's sentinels are exactly there. Our own is one integer.

use domain::Ticks;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);
/// 2000-01-01T00:00:00Z, the zero of Postgres.
const ZERO: i64 = 9_466_848_000_000_000;
/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.9999999Z: what every client of the database can name.
const NAMEABLE: std::ops::RangeInclusive<i64> = -621_355_968_000_000_000..=2_534_023_007_999_999_999;

/// Microseconds since the year 2000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PgStamp(i64);

impl PgStamp {
    /// `-infinity`: where alerts without a usable creation time are filed.
    pub(crate) const BEGINNING: Self = Self(i64::MIN);

    /// The instant cut to the microsecond, or `None` outside the years 1 to 9999.
    pub(crate) fn of(ticks: Ticks) -> Option<Self> {
        NAMEABLE.contains(&ticks.0).then(|| Self((ticks.0 - ZERO).div_euclid(10)))
    }

    /// The instant, or `None` for the infinities.
    pub(crate) fn to_ticks(self) -> Option<Ticks> {
        (self.0 != i64::MIN && self.0 != i64::MAX).then(|| Ticks(self.0.saturating_mul(10).saturating_add(ZERO)))
    }
}

impl Type<Postgres> for PgStamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for PgStamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for PgStamp {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0, buf)
    }
}

impl Decode<'_, Postgres> for PgStamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => <i64 as Decode<Postgres>>::decode(value).map(Self),
            PgValueFormat::Text => Err("a timestamp came as text: use a prepared statement".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip_to_the_microsecond_and_the_absurd_have_no_place() {
        for (text, back) in [
            ("2026-11-21T10:09:01.1569718Z", Some("2026-11-21T10:09:01.1569710Z")),
            ("1969-12-31T23:59:59.9999999Z", Some("1969-12-31T23:59:59.9999990Z")),
            ("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00.0000000Z")),
            ("9999-12-31T23:59:59.9999999Z", Some("9999-12-31T23:59:59.9999990Z")),
            ("9999-12-31T23:59:59-05:00", None),
            ("0001-01-01T00:00:00+05:00", None),
        ] {
            let ticks = Ticks::parse(text).unwrap();
            assert_eq!(PgStamp::of(ticks).and_then(PgStamp::to_ticks).map(|back| back.to_string()).as_deref(), back, "{text}");
        }
        assert_eq!(PgStamp::of(Ticks(i64::MIN)), None);
        assert_eq!(PgStamp::of(Ticks(i64::MAX)), None);
        assert_eq!(PgStamp::BEGINNING.to_ticks(), None);
    }

    #[sqlx::test]
    async fn postgres_reads_the_same_instant(pool: sqlx::PgPool) {
        for text in ["2026-11-21 10:09:01.156971+00", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00", "-infinity"] {
            let stamp: PgStamp = sqlx::query_scalar("select $1::text::timestamptz").bind(text).fetch_one(&pool).await.unwrap();
            let same: bool = sqlx::query_scalar("select $1 = $2::text::timestamptz").bind(stamp).bind(text).fetch_one(&pool).await.unwrap();
            assert!(same, "{text}");
        }
    }
}
