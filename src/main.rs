//! The program: parse, dispatch, exit code.

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some(rdmadoctor::worker::SUBCOMMAND) {
        return match rdmadoctor::worker::serve() {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(_) => std::process::ExitCode::from(3),
        };
    }
    std::process::ExitCode::SUCCESS
}
