//! The guide: what the crate decides, how to use it in a portal, and how it is built.
//!
//! | page | for whom |
//! |---|---|
//! | [The rules](rules) | those who ask why a mark is what it is: R1 to R11, which the other pages cite by number |
//! | [In a portal](embedding) | those who run syncs from a portal, in Rust or in another language |
//! | [Running every night](every_night) | those who run one school's sync from a timer |
//! | [Running a fleet](fleet) | those who run many schools |
//! | [Testing a portal](testing) | those who test a portal |
//! | [Your own source](your_own_source) | those who have another management system, or an export |
//! | [Your own store](crate::store::your_own_store) | those who keep marks in their own database |
//! | [iSAMS facts](isams_facts) | those who connect a school: what is verified about the iSAMS APIs, and what is only assumed |
//! | [Costs](costs) | those who plan time and memory: what a sync costs, and how that grows |
//! | [Design](design) | those who change this crate, or build on it |
//! | [Changelog](changelog) | those who update the crate |
//!
//! The pages exist only in the documentation; they add nothing to a build.
// The pages link to items of every feature, so some links are broken in documentation built with fewer features.
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
