//! `--format`: each command offers what its documents have, on either side of its name.

use clap::builder::{PossibleValue, PossibleValuesParser, Resettable, TypedValueParser as _};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, ValueEnum as _};

use crate::report::Format;

/// The argument's id.
const FORMAT: &str = "format";

/// Commands whose help and completions name what they have.
pub(super) fn offered(command: Command) -> Command {
    let Some(format) = command.get_arguments().find(|argument| argument.get_id() == FORMAT).cloned() else { return command };
    let values = Format::all().filter_map(|format| {
        let value = format.to_possible_value()?;
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        Some(if format.is_everywhere() { value } else { value.help(format!("{help} ({})", format.commands().join(", "))) })
    });
    let values: Vec<PossibleValue> = values.collect();
    below(command.mut_arg(FORMAT, |format| one_of(format, values)), "", &format)
}

/// Gives the commands below one, whose name is `path`, a `--format` of their own.
fn below(command: Command, path: &str, format: &Arg) -> Command {
    command.mut_subcommands(|command| {
        let path = if path.is_empty() { command.get_name().to_owned() } else { format!("{path} {}", command.get_name()) };
        let formats = formats(&path);
        let own = one_of(format.clone(), formats.iter().filter_map(Format::to_possible_value).collect());
        let own = match () {
            _ if Format::of_command(&path).is_empty() => own.hide(true),
            _ if formats.contains(&Format::default()) => own,
            // The only one needs no choice.
            _ => own.default_value(Resettable::Reset),
        };
        below(command.arg(own), &path, format)
    })
}

/// What a command has; where it prints no document, the format that stands for no choice.
fn formats(path: &str) -> Vec<Format> {
    let formats = Format::of_command(path);
    if formats.is_empty() { vec![Format::default()] } else { formats }
}

fn one_of(argument: Arg, values: Vec<PossibleValue>) -> Arg {
    argument.value_parser(PossibleValuesParser::new(values).map(|name| Format::from_str(&name, false).unwrap_or_default()))
}

/// Refuses a format that the command does not have, where it stands before the command's name.
pub(super) fn check(command: &Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let (mut matches, mut names) = (matches, Vec::new());
    while let Some((name, below)) = matches.subcommand() {
        (matches, names) = (below, [names, vec![name]].concat());
    }
    let formats = formats(&names.join(" "));
    match matches.get_one::<Format>(FORMAT) {
        Some(format) if !formats.contains(format) && *format != Format::default() => {
            let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
            error.insert(ContextKind::InvalidArg, ContextValue::String("--format <FORMAT>".to_owned()));
            error.insert(ContextKind::InvalidValue, ContextValue::String(format.name()));
            error.insert(ContextKind::ValidValue, ContextValue::Strings(formats.into_iter().map(Format::name).collect()));
            Err(error)
        }
        _ => Ok(()),
    }
}
