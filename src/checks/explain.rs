//! What a check means, for `explain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Check;
use crate::schema;

/// The document of `explain ID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// `rdmadoctor/explanation/1`.
    pub schema: String,
    /// The check.
    pub id: String,
    /// What holds where all is well.
    pub title: String,
    /// What it is about.
    pub category: String,
    /// How much effort it takes.
    pub level: String,
    /// Why it matters.
    pub why: String,
    /// How to confirm it by hand.
    pub confirm: String,
    /// How to mend it.
    #[serde(rename = "mend")]
    pub remedy: String,
    /// Checks whose findings can be the cause.
    pub depends_on: Vec<String>,
    /// Where this is known from.
    pub sources: Vec<String>,
}

/// The document of `explain` without an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanations {
    /// `rdmadoctor/explanations/1`.
    pub schema: String,
    /// Every check.
    pub checks: Vec<Explanation>,
}

impl From<&Check> for Explanation {
    fn from(check: &Check) -> Self {
        let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            schema: schema::EXPLANATION.to_owned(),
            id: check.page.id.to_owned(),
            title: check.page.title.to_owned(),
            category: check.page.category.title().to_owned(),
            level: check.page.level.name().to_owned(),
            why: check.page.why.to_owned(),
            confirm: check.page.confirm.to_owned(),
            remedy: check.page.remedy.to_owned(),
            depends_on: all(check.depends_on),
            sources: all(check.page.sources),
        }
    }
}

impl Explanations {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self { schema: schema::EXPLANATIONS.to_owned(), checks: super::registry().map(Explanation::from).collect() }
    }
}
