//! Text as a server has it, in whatever encoding.
//!
//! Views that all databases share, such as `pg_stat_activity` and `pg_roles`, show what was written in one database in each of the
//! others, byte by byte, and a database of `SQL_ASCII` holds any bytes at all: what is no UTF-8 is shown by replacement characters, and
//! costs no row. A struct that a query fills names these for its fields: `#[sqlx(try_from = "Lossy")]`.

use sqlx::{
    Decode, Postgres, Type, ValueRef,
    error::BoxDynError,
    postgres::{PgHasArrayType, PgTypeInfo, PgValueRef},
};

/// Text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lossy(String);

/// Text or NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaybeLossy(Option<String>);

/// An array of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossyArray(Vec<String>);

impl From<Lossy> for String {
    fn from(Lossy(text): Lossy) -> Self {
        text
    }
}

impl From<MaybeLossy> for Option<String> {
    fn from(MaybeLossy(text): MaybeLossy) -> Self {
        text
    }
}

impl From<LossyArray> for Vec<String> {
    fn from(LossyArray(texts): LossyArray) -> Self {
        texts
    }
}

impl PgHasArrayType for Lossy {
    fn array_type_info() -> PgTypeInfo {
        <String as PgHasArrayType>::array_type_info()
    }

    fn array_compatible(of: &PgTypeInfo) -> bool {
        <String as PgHasArrayType>::array_compatible(of)
    }
}

impl Type<Postgres> for LossyArray {
    fn type_info() -> PgTypeInfo {
        <Vec<Lossy> as Type<Postgres>>::type_info()
    }

    fn compatible(of: &PgTypeInfo) -> bool {
        <Vec<Lossy> as Type<Postgres>>::compatible(of)
    }
}

impl<'r> Decode<'r, Postgres> for LossyArray {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(Vec::<Lossy>::decode(value)?.into_iter().map(String::from).collect()))
    }
}

impl Type<Postgres> for Lossy {
    fn type_info() -> PgTypeInfo {
        <String as Type<Postgres>>::type_info()
    }

    fn compatible(of: &PgTypeInfo) -> bool {
        <String as Type<Postgres>>::compatible(of)
    }
}

impl Type<Postgres> for MaybeLossy {
    fn type_info() -> PgTypeInfo {
        Lossy::type_info()
    }

    fn compatible(of: &PgTypeInfo) -> bool {
        Lossy::compatible(of)
    }
}

impl<'r> Decode<'r, Postgres> for Lossy {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(String::from_utf8_lossy(value.as_bytes()?).into_owned()))
    }
}

impl<'r> Decode<'r, Postgres> for MaybeLossy {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(if value.is_null() { None } else { Some(Lossy::decode(value)?.0) }))
    }
}
