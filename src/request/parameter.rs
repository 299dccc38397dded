//! The parameters of a request by the names that verbs and reports use, and their values.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{QpRequest, QpType, SrqRequest};

rdmadoctor_types::words! {
    /// One dimension of the matrix; the most frequent culprits first, the order in which they are suspected.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Parameter {
        /// Scatter-gather entries in a receive request.
        MaxRecvSge = "max_recv_sge",
        /// Bytes inline in a send request.
        MaxInlineData = "max_inline_data",
        /// Scatter-gather entries in a send request.
        MaxSendSge = "max_send_sge",
        /// Entries of the completion queue.
        CqDepth = "cq_depth",
        /// Work requests on the send queue.
        MaxSendWr = "max_send_wr",
        /// Work requests on the receive queue.
        MaxRecvWr = "max_recv_wr",
        /// Shared receive queue.
        Srq = "srq",
        /// Type of the queue pair.
        QpType = "qp_type",
    }
}

impl Parameter {
    /// Those that are numbers and have bounds, in the order of reports.
    pub const NUMERIC: [Self; 6] =
        [Self::MaxSendWr, Self::MaxRecvWr, Self::MaxSendSge, Self::MaxRecvSge, Self::MaxInlineData, Self::CqDepth];

    /// The value that `request` has for it. A shared receive queue counts as its depth, 0 where there is none.
    #[must_use]
    pub fn get(self, request: &QpRequest) -> Value {
        match self {
            Self::MaxSendWr => Value::Number(request.max_send_wr),
            Self::MaxRecvWr => Value::Number(request.max_recv_wr),
            Self::MaxSendSge => Value::Number(request.max_send_sge),
            Self::MaxRecvSge => Value::Number(request.max_recv_sge),
            Self::MaxInlineData => Value::Number(request.max_inline_data),
            Self::CqDepth => Value::Number(request.cq_depth),
            Self::QpType => Value::Type(request.qp_type),
            Self::Srq => Value::Number(request.srq.map_or(0, |srq| srq.max_wr)),
        }
    }

    /// `request` with another value for it. A value of the wrong kind changes nothing.
    #[must_use]
    pub fn with(self, request: &QpRequest, value: Value) -> QpRequest {
        let mut changed = request.clone();
        match (self, value) {
            (Self::QpType, Value::Type(kind)) => changed.qp_type = kind,
            (Self::MaxSendWr, Value::Number(number)) => changed.max_send_wr = number,
            (Self::MaxRecvWr, Value::Number(number)) => changed.max_recv_wr = number,
            (Self::MaxSendSge, Value::Number(number)) => changed.max_send_sge = number,
            (Self::MaxRecvSge, Value::Number(number)) => changed.max_recv_sge = number,
            (Self::MaxInlineData, Value::Number(number)) => changed.max_inline_data = number,
            (Self::CqDepth, Value::Number(number)) => changed.cq_depth = number,
            (Self::Srq, Value::Number(0)) => changed.srq = None,
            (Self::Srq, Value::Number(max_wr)) => {
                changed.srq = Some(SrqRequest { max_wr, max_sge: request.srq.map_or(1, |srq| srq.max_sge) });
            }
            (Self::QpType, Value::Number(_)) | (_, Value::Type(_)) => {}
        }
        changed
    }

    /// Reads a value as the command line gives it.
    ///
    /// # Errors
    /// The text is no number of this parameter's range (4k and 1M are understood), or no type.
    pub fn parse_value(self, text: &str) -> Result<Value, String> {
        if self == Self::QpType {
            return text.parse().map(Value::Type);
        }
        if self == Self::Srq {
            match text.to_ascii_lowercase().as_str() {
                "no" | "none" | "false" => return Ok(Value::Number(0)),
                "yes" | "true" => return Ok(Value::Number(16)),
                _ => {}
            }
        }
        let (digits, unit) = text.split_at(text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic()).len());
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" => Some(1),
            "k" | "kib" => Some(1 << 10),
            "m" | "mib" => Some(1 << 20),
            _ => None,
        };
        digits
            .parse::<u32>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .map(Value::Number)
            .ok_or_else(|| format!("`{text}` is no value for {self}: expected a number from 0 to {}, such as 4096 or 4k", u32::MAX))
    }
}

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|parameter| parameter.name() == text).ok_or_else(|| {
            let mut valid: Vec<_> = Self::NUMERIC.iter().map(|parameter| parameter.name()).collect();
            valid.extend([Self::QpType.name(), Self::Srq.name()]);
            format!("`{text}` is no parameter; valid are {}", valid.join(", "))
        })
    }
}

/// A parameter's value: a number, or the type of a queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// Of a numeric parameter.
    Number(u32),
    /// Of `qp_type`.
    Type(QpType),
}

impl Value {
    /// The number, where it is one.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(number),
            Self::Type(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Type(kind) => kind.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_reads_back_what_it_set() {
        let base = QpRequest::base(QpType::RC);
        for parameter in Parameter::ALL {
            let value = if parameter == Parameter::QpType { Value::Type(QpType::UD) } else { Value::Number(7) };
            assert_eq!(parameter.get(&parameter.with(&base, value)), value);
            assert_eq!(parameter.name().parse(), Ok(parameter));
        }
    }

    #[test]
    fn values_take_units_and_refuse_what_does_not_fit() {
        assert_eq!(Parameter::MaxSendWr.parse_value("4k"), Ok(Value::Number(4096)));
        assert_eq!(Parameter::CqDepth.parse_value("1M"), Ok(Value::Number(1 << 20)));
        assert_eq!(Parameter::QpType.parse_value("ud"), Ok(Value::Type(QpType::UD)));
        assert_eq!(Parameter::Srq.parse_value("yes"), Ok(Value::Number(16)));
        for bad in ["", "-1", "4x", "4294967296", "4194304k", "k"] {
            assert!(Parameter::MaxSendWr.parse_value(bad).is_err(), "{bad}");
        }
    }
}
