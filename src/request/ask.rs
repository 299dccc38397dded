//! What somebody asks for: an engine of the catalog, or the user on the command line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameter, QpRequest, QpType, Value};

/// A request with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub origin: AskOrigin,
    /// The engine's name for the queue pair, `asked` for the user's own.
    pub queue: String,
    /// What is asked, after the engine's own lowering to what the device publishes.
    pub request: QpRequest,
    /// Parameters that the engine lowers by trying, as deep as needed.
    pub probed: Vec<Parameter>,
    /// What the engine lowered, in words.
    pub clamped: Vec<String>,
    /// What a user can set.
    pub settings: Vec<Setting>,
    /// Whether the engine goes on without this queue pair.
    pub optional: bool,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskOrigin {
    /// The user, by `--ask`.
    User,
    /// An engine.
    Engine {
        /// Its name in the catalog.
        name: String,
        /// The release's version.
        version: String,
    },
}

/// A setting of an engine that changes a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    pub parameter: Parameter,
    /// The setting's name, such as `SLIME_MAX_CQ_DEPTH`.
    pub name: String,
    /// `env`, `flag` or `config`.
    pub kind: String,
    /// The one value of the setting that matters, where it is not the parameter's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What the parameter then becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives: Option<u32>,
}

/// Reads `max_send_sge=4,max_recv_sge=4,…`; what is not named stays at the base.
///
/// # Errors
/// A part is no `parameter=value`, the parameter is not known or named twice, or the value does not fit.
pub fn parse_ask(text: &str) -> Result<QpRequest, String> {
    let mut request = QpRequest::base(QpType::RC);
    let mut seen = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no parameter=value, such as max_send_sge=4"))?;
        let parameter: Parameter = name.trim().parse()?;
        if seen.contains(&parameter) {
            return Err(format!("{parameter} is given twice"));
        }
        seen.push(parameter);
        request = parameter.with(&request, parameter.parse_value(value.trim())?);
    }
    if seen.is_empty() {
        return Err("nothing is asked; give at least one parameter=value, such as max_send_sge=4".to_owned());
    }
    Ok(request)
}

/// Reads one dimension of a grid, `max_send_sge=1,2,4`.
///
/// # Errors
/// As [`parse_ask`].
pub fn parse_grid(text: &str) -> Result<(Parameter, Vec<Value>), String> {
    let (name, values) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no parameter=value,value,…, such as max_send_sge=1,2,4"))?;
    let parameter: Parameter = name.trim().parse()?;
    let values = values.split(',').map(|value| parameter.parse_value(value.trim())).collect::<Result<Vec<_>, _>>()?;
    Ok((parameter, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_are_read_and_bad_ones_name_the_place() {
        let request = parse_ask("max_send_sge=4, max_recv_sge=4,max_send_wr=8k,qp_type=UD").unwrap();
        assert_eq!((request.max_send_sge, request.max_recv_sge, request.max_send_wr, request.qp_type), (4, 4, 8192, QpType::UD));
        assert!(parse_ask("max_sge=4").unwrap_err().contains("max_send_sge"));
        assert!(parse_ask("max_send_sge").unwrap_err().contains("max_send_sge=4"));
        assert!(parse_ask("max_send_sge=1,max_send_sge=2").unwrap_err().contains("twice"));
        assert!(parse_ask("max_send_sge=four").unwrap_err().contains("four"));
        assert!(parse_ask("").is_err());
    }

    #[test]
    fn a_grid_has_values() {
        let (parameter, values) = parse_grid("max_send_sge=1,2,4").unwrap();
        assert_eq!(parameter, Parameter::MaxSendSge);
        assert_eq!(values, [Value::Number(1), Value::Number(2), Value::Number(4)]);
        assert!(parse_grid("max_send_sge=1,,2").is_err());
        assert!(parse_grid("1,2").is_err());
    }
}
