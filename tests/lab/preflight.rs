//! The gate on a real kernel's verbs.

use serde_json::Value;

use super::Test;
use super::guest::Guest;

/// rxe0 is plain Soft-RoCE.
pub const RXE: &[Test] = &[("the_gate_passes_with_a_profile", passes)];

fn passes(guest: &mut Guest) {
    // How fast an emulated machine under load is, is not what is tested: the gate has more than its minute here.
    let ran = guest.sh_for(
        &format!(
            "{} --format json -q --answer-within 30s preflight --engine ucx-rc --time-budget 280s --profile-out /tmp/gate.yaml --baseline /tmp/last.json",
            env!("CARGO_BIN_EXE_rdmadoctor")
        ),
        300,
    );
    let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(ran.code == 0 && document["verdict"] != "fail", "{:#}", document["steps"]);
    assert!(document["stopped"].is_null(), "{:#}", document["steps"]);
    assert_eq!(document["measured"][0]["device"], "rxe0");
    assert_eq!(guest.doctor("profile validate /tmp/gate.yaml").code, 0, "{:#}", document["steps"]);
    // Every entry was attempted or measured.
    let profile = guest.sh("cat /tmp/gate.yaml").out;
    assert!(profile.lines().any(|line| line.trim_end() == "validated: true"), "{:#}\n{profile}", document["steps"]);
}
