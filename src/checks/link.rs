//! What follows from what.

use std::collections::HashMap;

use super::{Finding, Status, find};

/// The first warning or failure, and the first failure, by their places.
#[derive(Clone, Copy, Default)]
struct First {
    any: Option<usize>,
    failure: Option<usize>,
}

impl First {
    fn and(self, other: Self) -> Self {
        let earlier = |one: Option<usize>, other: Option<usize>| one.into_iter().chain(other).min();
        Self { any: earlier(self.any, other.any), failure: earlier(self.failure, other.failure) }
    }
}

/// The findings of each check from which others can follow: all of them, and by what each is about. A host with thousands of devices has tens of
/// thousands of findings, so that none is held against each other one.
#[derive(Default)]
struct Roots<'a>(HashMap<&'a str, (First, HashMap<&'a str, First>)>);

impl<'a> Roots<'a> {
    fn of(findings: &'a [Finding]) -> Self {
        let mut roots = Self::default();
        for (index, root) in findings.iter().enumerate() {
            if matches!(root.status, Status::Fail | Status::Warn) {
                let own = First { any: Some(index), failure: (root.status == Status::Fail).then_some(index) };
                let (all, by_subject) = roots.0.entry(&root.id).or_default();
                *all = all.and(own);
                for subject in root.subjects() {
                    let first = by_subject.entry(subject).or_default();
                    *first = first.and(own);
                }
            }
        }
        roots
    }

    /// Those of a check from which this finding can follow: on the same thing, on a whole of which it is a part, or one of them is on the host.
    fn fitting(&self, id: &str, finding: &Finding) -> First {
        let Some((all, by_subject)) = self.0.get(id) else { return First::default() };
        if finding.subjects().any(|subject| subject == "host") {
            return *all;
        }
        let on = |subject: &str| by_subject.get(subject).copied().unwrap_or_default();
        let mut first = on("host");
        for subject in finding.subjects() {
            let wholes = subject.match_indices('/').filter_map(|(at, _)| subject.get(..at)).chain(std::iter::once(subject));
            first = wholes.chain(subject.split('/')).fold(first, |first, whole| first.and(on(whole)));
        }
        first
    }
}

/// Gives each finding that is not well the nearest one that it follows from. Dependencies have no cycles, so neither have these links.
pub(super) fn link(findings: &mut [Finding]) {
    let roots = Roots::of(findings);
    let mut links = Vec::new();
    for (index, finding) in findings.iter().enumerate().filter(|(_, finding)| finding.status != Status::Pass) {
        let depends_on = find(&finding.id).map_or(&[][..], |check| check.depends_on);
        let fitting = || depends_on.iter().map(|id| roots.fitting(id, finding));
        // A failure does not follow from a mere warning where there is a failure to follow from.
        let root = fitting().find_map(|first| first.failure).or_else(|| fitting().find_map(|first| first.any));
        links.extend(root.and_then(|root| Some((index, findings.get(root)?.key()))));
    }
    for (index, key) in links {
        if let Some(finding) = findings.get_mut(index) {
            finding.because = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether a finding can follow from another, as it is defined.
    fn can_follow(finding: &Finding, root: &Finding) -> bool {
        let is_part = |part: &str, whole: &str| part == whole || part.strip_prefix(whole).is_some_and(|rest| rest.starts_with('/'));
        finding.subjects().any(|subject| subject == "host")
            || root.subjects().any(|subject| subject == "host")
            || finding
                .subjects()
                .any(|part| root.subjects().any(|whole| is_part(part, whole) || part.split('/').any(|segment| segment == whole)))
    }

    fn defined(findings: &[Finding]) -> Vec<Option<String>> {
        let because = |finding: &Finding| {
            let depends_on = find(&finding.id).unwrap().depends_on;
            let of = |id: &'static str| findings.iter().filter(move |root| root.id == id);
            let fits = |root: &&Finding| matches!(root.status, Status::Fail | Status::Warn) && can_follow(finding, root);
            let roots: Vec<&Finding> = depends_on.iter().flat_map(|id| of(id)).filter(fits).collect();
            let root = roots.iter().find(|root| root.status == Status::Fail).or_else(|| roots.first());
            root.filter(|_| finding.status != Status::Pass).map(|root| root.key())
        };
        findings.iter().map(because).collect()
    }

    fn subject() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("host"),
            Just("a"),
            Just("a/1"),
            Just("a/1/x"),
            Just("b"),
            Just("b/a"),
            Just("1"),
            Just("ab"),
            Just("a/"),
            Just("")
        ]
        .prop_map(str::to_owned)
    }

    fn finding() -> impl Strategy<Value = Finding> {
        let ids: Vec<&str> =
            super::super::registry().filter(|check| !check.depends_on.is_empty()).map(|check| check.page.id).take(6).collect();
        let roots: Vec<&str> = ids.iter().flat_map(|id| find(id).unwrap().depends_on).copied().collect();
        let id = proptest::sample::select([ids, roots].concat());
        (id, proptest::sample::select(Status::ALL.to_vec()), subject(), proptest::collection::vec(subject(), 0..2))
            .prop_map(|(id, status, subject, about)| Finding { id: id.to_owned(), status, about, ..Finding::pass(subject, "") })
    }

    proptest! {
        #[test]
        fn each_follows_from_what_it_is_defined_to_follow_from(mut findings in proptest::collection::vec(finding(), 0..12)) {
            let expected = defined(&findings);
            link(&mut findings);
            prop_assert_eq!(findings.into_iter().map(|finding| finding.because).collect::<Vec<_>>(), expected);
        }
    }
}
