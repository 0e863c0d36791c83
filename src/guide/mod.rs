//! Pages for people: what the crate decides, how to use it in a portal, and how it is built.
//!
//! | page | for whom |
//! |---|---|
//! | [The rules](rules) | whoever asks why a mark is what it is: R1 to R11, which the other pages cite by number |
//! | [In a portal](embedding) | whoever runs syncs from a portal, in Rust or in another language |
//! | [Running every night](every_night) | whoever runs one school's sync from a timer |
//! | [Running a fleet](fleet) | whoever runs many schools |
//! | [Testing a portal](testing) | whoever tests that |
//! | [Your own source](your_own_source) | whoever has another management system, or an export |
//! | [Your own store](crate::store::your_own_store) | whoever keeps marks in a database of their own |
//! | [iSAMS facts](isams_facts) | whoever connects a school: what is verified about the iSAMS APIs, and what is only assumed |
//! | [Costs](costs) | whoever plans for time and memory: what a sync costs, and how that grows |
//! | [Design](design) | whoever changes this crate, or builds on it |
//! | [Changelog](changelog) | whoever updates it |
//!
//! The pages exist only in the documentation; they add nothing to a build.
// The pages link to every feature, so some links lead nowhere in the documentation of fewer features.
#![cfg_attr(not(feature = "__tests"), allow(rustdoc::broken_intra_doc_links))]

#[doc = include_str!("rules.md")]
pub mod rules {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[doc = include_str!("every_night.md")]
pub mod every_night {}

#[doc = include_str!("fleet.md")]
pub mod fleet {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("your_own_source.md")]
pub mod your_own_source {}

#[doc = include_str!("isams_facts.md")]
pub mod isams_facts {}

#[doc = include_str!("costs.md")]
pub mod costs {}

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("../../CHANGELOG.md")]
pub mod changelog {}
