//! Pages for people.
//!
//! - [The rules](rules), R1 to R11, which this documentation cites by number
//! - [In a portal](embedding), in Rust or in any other language
//! - [Your own source](your_own_source) and [your own store](crate::store::your_own_store)
//! - [Testing a portal](testing)
//! - [What is known of iSAMS](crate::isams), verified and assumed
//! - [Watching a run](crate::sync#watching-a-run)
//! - [Design](design)
//! - [Changelog](changelog)

#[doc = include_str!("rules.md")]
pub mod rules {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[doc = include_str!("your_own_source.md")]
pub mod your_own_source {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("design.md")]
pub mod design {}

#[doc = include_str!("../../CHANGELOG.md")]
pub mod changelog {}
