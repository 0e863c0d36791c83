//! Pages for people: what the crate decides, how it is built, and how to use it in a portal.
//!
//! | page | for whom |
//! |---|---|
//! | [The rules](rules) | whoever asks why a mark is what it is: R1 to R11, which the other pages cite by number |
//! | [iSAMS facts](isams_facts) | whoever connects a school: what is verified about the iSAMS APIs, and what is only assumed |
//! | [Design](design) | whoever changes this crate, or builds on it |
//! | [Changelog](changelog) | whoever updates it |
//!
//! The pages exist only in the documentation; they add nothing to a build.
// The pages link to every feature, so some links lead nowhere in the documentation of fewer features.
#![cfg_attr(not(feature = "__tests"), allow(rustdoc::broken_intra_doc_links))]

#[doc = include_str!("rules.md")]
pub mod rules {}

#[doc = include_str!("isams_facts.md")]
pub mod isams_facts {}

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("../../CHANGELOG.md")]
pub mod changelog {}
