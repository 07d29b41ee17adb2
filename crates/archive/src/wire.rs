//! The numbers of a store as they stand in JSON: bare.

macro_rules! bare {
    ($name:ident, $type:ident, $inner:ty) => {
        pub(crate) mod $name {
            use corewal_format::$type;
            use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

            pub(crate) fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                value.0.serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                <$inner>::deserialize(deserializer).map($type)
            }
        }
    };
}

bare!(epoch, Epoch, u64);
bare!(core, CoreId, u16);
bare!(segment, SegmentId, u64);
bare!(lsn, Lsn, u64);

pub(crate) mod log_id {
    use corewal_format::LogId;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &LogId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogId, D::Error> {
        let text = String::deserialize(deserializer)?;
        LogId::parse(&text).ok_or_else(|| D::Error::custom("not the identity of a store"))
    }
}
