//! 02: kernel modules.

mod condition;
mod presence;

use super::Source::{Limits, Log, Modules, Net, Pcie, Rdma, System, Verbs, VerbsFiles};
use super::{Check, page};

pub(super) use condition::peer_memory_module;
pub(super) use presence::functions;

pub(super) const CHECKS: &[Check] = &[
    Check {
        page: page("RD-0201"),
        needs: &[Rdma, Pcie, Net, System, Modules],
        depends_on: &["RD-0205", "RD-0211", "RD-0209"],
        run: presence::core_is_there,
    },
    Check {
        page: page("RD-0202"),
        needs: &[Rdma, Pcie, System, Modules, Verbs],
        depends_on: &["RD-0201", "RD-0205", "RD-0211", "RD-0209"],
        run: presence::uverbs_is_there,
    },
    Check {
        page: page("RD-0203"),
        needs: &[Rdma, System, Modules],
        depends_on: &["RD-0205", "RD-0211"],
        run: presence::connection_manager_is_there,
    },
    Check {
        page: page("RD-0204"),
        needs: &[Rdma, Pcie, System, Modules],
        depends_on: &["RD-0201", "RD-0205", "RD-0211", "RD-0209"],
        run: presence::drivers_are_there,
    },
    Check { page: page("RD-0205"), needs: &[Pcie, Modules], depends_on: &[], run: condition::nothing_is_blocked },
    Check { page: page("RD-0206"), needs: &[Modules], depends_on: &[], run: condition::versions_agree },
    Check { page: page("RD-0207"), needs: &[Modules], depends_on: &[], run: condition::built_for_this_kernel },
    Check { page: page("RD-0208"), needs: &[Modules], depends_on: &["RD-0201", "RD-0209"], run: condition::peer_memory_interface },
    Check { page: page("RD-0209"), needs: &[Log, Modules], depends_on: &[], run: condition::nothing_was_refused },
    Check { page: page("RD-0210"), needs: &[Rdma, Modules], depends_on: &[], run: condition::erdma_mode },
    Check { page: page("RD-0211"), needs: &[Pcie, Modules], depends_on: &[], run: condition::loading_is_possible },
    Check { page: page("RD-0212"), needs: &[Modules], depends_on: &[], run: condition::parameters_agree },
    Check { page: page("RD-0213"), needs: &[Rdma, Limits, VerbsFiles], depends_on: &[], run: condition::namespaces_are_shared },
    Check {
        page: page("RD-0214"),
        needs: &[System, Modules],
        depends_on: &["RD-0201", "RD-0202", "RD-0204", "RD-0205", "RD-0211"],
        run: presence::required_modules,
    },
    Check { page: page("RD-0215"), needs: &[Modules], depends_on: &["RD-1110"], run: condition::nothing_hangs },
];
