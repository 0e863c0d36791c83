//! What codes mean, what marks add up to, and what a parent may see yet.

mod registers;
mod settling;
mod summary;
mod table;
