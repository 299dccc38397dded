//! Words of documents as enums.

use std::fmt;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An enum with a word for each variant.
pub trait Named: Copy + fmt::Display + 'static {
    /// Every variant, in the order of their declaration.
    const ALL: &'static [Self];
    /// The word.
    fn name(self) -> &'static str;
}

/// Declares an enum that is [`Named`].
#[macro_export]
macro_rules! words {
    ($(#[$attribute:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// Every variant, in the order of their declaration.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::Named for $name {
            const ALL: &'static [Self] = &Self::ALL;

            fn name(self) -> &'static str {
                self.name()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

/// A word that was read: one of those that are known, in upper or lower case, or another, which is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// One of those that are known.
    Known(T),
    /// Another, of a newer release or kernel.
    Other(String),
}

impl<T: Named> Word<T> {
    /// As documents have it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(word) => word.name(),
            Self::Other(word) => word,
        }
    }

    /// The one of those that are known.
    #[must_use]
    pub fn known(&self) -> Option<T> {
        if let Self::Known(word) = self { Some(*word) } else { None }
    }
}

impl<T: Named> From<&str> for Word<T> {
    fn from(text: &str) -> Self {
        let known = T::ALL.iter().find(|word| word.name().eq_ignore_ascii_case(text));
        known.map_or_else(|| Self::Other(text.to_owned()), |word| Self::Known(*word))
    }
}

impl<T: PartialEq> PartialEq<T> for Word<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(word) if word == other)
    }
}

impl<T: Named> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<T: Named> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: Named> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(&*text))
    }
}

#[cfg(feature = "schema")]
impl<T> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LinkLayer, OutcomeKind, PortState, QpState, Transport};

    fn read<T: Named>(text: &str) -> Word<T> {
        Word::<T>::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text)).unwrap()
    }

    #[test]
    fn words_read_back_and_others_are_kept() {
        fn each<T: Named + PartialEq + fmt::Debug>(words: &[&str]) {
            assert_eq!(T::ALL.iter().map(|word| word.name()).collect::<Vec<_>>(), words);
            for word in T::ALL {
                assert_eq!(read::<T>(word.name()), *word);
                assert_eq!(read::<T>(word.name()).as_str(), word.name());
            }
            for other in ["", "polling", " active", "Active of another kind"] {
                assert_eq!(read::<T>(other), Word::Other(other.to_owned()));
                assert_eq!(read::<T>(other).to_string(), other);
            }
        }
        each::<PortState>(&["down", "init", "armed", "active"]);
        each::<LinkLayer>(&["InfiniBand", "Ethernet", "Unspecified"]);
        each::<Transport>(&["RoCE", "InfiniBand", "iWARP", "unspecified"]);
        each::<QpState>(&["RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"]);
        each::<OutcomeKind>(&["granted", "refused", "crashed", "hung", "not_run"]);
        assert_eq!(read::<LinkLayer>("ethernet"), LinkLayer::Ethernet);
    }

    #[test]
    fn codes_are_those_of_verbs() {
        assert_eq!(PortState::ALL.iter().map(|state| state.code()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
