//! The shape shared by all records of the API.

/// Declares records whose fields have Go's names (`PascalCase` unless renamed) and take the default where the
/// JSON has `null` or nothing. The fields of an `apart` section say themselves how they are read; those of a `then`
/// section after it are like the first. All are written in this order, which is Go's.
macro_rules! record {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$fmeta:meta])* pub $field:ident : $ty:ty , )* }
        $(
            apart { $( $(#[$xmeta:meta])* pub $xfield:ident : $xty:ty , )* }
            $( then { $( $(#[$tmeta:meta])* pub $tfield:ident : $tty:ty , )* } )?
        )*
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        pub struct $name {
            $( #[serde(deserialize_with = "crate::null::or_default")] $(#[$fmeta])* pub $field: $ty, )*
            $(
                $( $(#[$xmeta])* pub $xfield: $xty, )*
                $($( #[serde(deserialize_with = "crate::null::or_default")] $(#[$tmeta])* pub $tfield: $tty, )*)?
            )*
        }
    )*};
}
