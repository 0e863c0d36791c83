//! No type of another crate in the public API, but for those that are allowed: they could not be replaced without breaking
//! users.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, FnArg, Generics, Ident, Token, braced, parenthesized};
use syn::{Fields, ImplItem, Item, ItemImpl, Signature, TraitItem, UseTree, Visibility};

/// What the public API may name of other crates. An empty list of names allows all.
const ALLOWED: [(&str, &[&str]); 5] = [
    // Dates and times.
    ("chrono", &["DateTime", "NaiveDate", "NaiveDateTime", "NaiveTime", "TimeDelta", "Utc", "FixedOffset", "Weekday"]),
    ("serde", &["Serialize", "Serializer", "Deserialize", "Deserializer"]),
    ("futures", &["Stream"]),
    // A portal's own connections, in one constructor.
    ("deadpool_postgres", &["Pool"]),
    // The mock's own expectations.
    ("mockall", &[]),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("bin") {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The crates that the manifest names.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    let names = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let names = names.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.replace('-', "_")).collect()
}

/// Which crate each imported name is of, and how that crate calls it.
fn imports(tree: &UseTree, path: &[String], found: &mut BTreeMap<String, (String, String)>) {
    let named = |name: String, original: String| {
        let root = path.first().cloned().unwrap_or_else(|| original.clone());
        (name, (root, original))
    };
    match tree {
        UseTree::Path(step) => imports(&step.tree, &[path, &[step.ident.to_string()]].concat(), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, path, found)),
        UseTree::Name(name) => found.extend([named(name.ident.to_string(), name.ident.to_string())]),
        UseTree::Rename(name) => found.extend([named(name.rename.to_string(), name.ident.to_string())]),
        UseTree::Glob(_) => {}
    }
}

/// Looks at the types that a public item names.
struct Named<'a> {
    dependencies: &'a BTreeSet<String>,
    imports: BTreeMap<String, (String, String)>,
    refused: Vec<String>,
}

impl<'ast> Visit<'ast> for Named<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let (first, last) = (names[0].clone(), names[names.len() - 1].clone());
        let (of_crate, name) = self.imports.get(&first).cloned().unwrap_or((first, last.clone()));
        // A path that goes on names what is inside of what was imported.
        let name = if names.len() > 1 { last } else { name };
        let is_allowed = |of_crate: &str| {
            let allowed = ALLOWED.iter().find(|(known, _)| *known == of_crate);
            allowed.is_some_and(|(_, names)| names.is_empty() || names.contains(&name.as_str()))
        };
        if self.dependencies.contains(&of_crate) && !is_allowed(&of_crate) {
            self.refused.push(format!("{of_crate}::…::{name}"));
        }
        visit::visit_path(self, path);
    }
}

impl Named<'_> {
    fn signature(&mut self, signature: &Signature) {
        self.visit_signature(signature);
    }

    fn fields(&mut self, fields: &Fields, is_enum: bool) {
        for field in fields {
            // A `From` is made for what an error is from, whatever the field's visibility.
            let is_from = field.attrs.iter().any(|attribute| attribute.path().is_ident("from"));
            if is_enum || is_from || is_public(&field.vis) {
                self.visit_type(&field.ty);
            }
        }
    }

    fn implementation(&mut self, item: &ItemImpl) {
        if let Some((of_trait, _)) = &item.trait_ {
            self.visit_path(of_trait);
            return;
        }
        for item in &item.items {
            match item {
                ImplItem::Fn(function) if is_public(&function.vis) => self.signature(&function.sig),
                ImplItem::Const(constant) if is_public(&constant.vis) => self.visit_type(&constant.ty),
                _ => {}
            }
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Fn(function) if is_public(&function.vis) => self.signature(&function.sig),
            Item::Struct(item) if is_public(&item.vis) => {
                self.visit_generics(&item.generics);
                self.fields(&item.fields, false);
            }
            Item::Enum(item) if is_public(&item.vis) => {
                item.variants.iter().for_each(|variant| self.fields(&variant.fields, true));
            }
            Item::Trait(item) if is_public(&item.vis) => {
                item.supertraits.iter().for_each(|bound| self.visit_type_param_bound(bound));
                for item in &item.items {
                    if let TraitItem::Fn(function) = item {
                        self.signature(&function.sig);
                    }
                }
            }
            Item::Type(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Macro(item) if item.mac.path.is_ident("setters") => {
                let Setters(arguments) = item.mac.parse_body().unwrap();
                arguments.iter().for_each(|argument| self.visit_fn_arg(argument));
            }
            Item::Const(item) if is_public(&item.vis) => self.visit_type(&item.ty),
            Item::Use(item) if is_public(&item.vis) => {
                let mut found = BTreeMap::new();
                imports(&item.tree, &[], &mut found);
                let of_others = found.into_values().filter(|(root, _)| self.dependencies.contains(root));
                self.refused.extend(of_others.map(|(root, name)| format!("{root}::…::{name}, exported")));
            }
            _ => {}
        }
    }
}

/// The arguments of the setters that a macro makes.
struct Setters(Vec<FnArg>);

impl Parse for Setters {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let (_, _): (Ident, Generics) = (input.parse()?, input.parse()?);
        let setters;
        braced!(setters in input);
        let mut arguments = Vec::new();
        while !setters.is_empty() {
            let argument;
            let (_, _): (Vec<Attribute>, Ident) = (setters.call(Attribute::parse_outer)?, setters.parse()?);
            parenthesized!(argument in setters);
            arguments.push(argument.parse()?);
            let (_, _, _): (Token![=>], Expr, Token![;]) = (setters.parse()?, setters.parse()?, setters.parse()?);
        }
        Ok(Self(arguments))
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// What a file's public items name and may not. Implementations of foreign traits for private types are none of the API.
fn refused(text: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    let file = syn::parse_file(text).unwrap();
    let mut named = Named { dependencies, imports: BTreeMap::new(), refused: Vec::new() };
    let mut private = BTreeSet::new();
    for item in &file.items {
        match item {
            Item::Use(item) => imports(&item.tree, &[], &mut named.imports),
            Item::Struct(item) if !is_public(&item.vis) => drop(private.insert(item.ident.to_string())),
            Item::Enum(item) if !is_public(&item.vis) => drop(private.insert(item.ident.to_string())),
            _ => {}
        }
    }
    for item in &file.items {
        match item {
            Item::Impl(item) => {
                let of = match &*item.self_ty {
                    syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
                    _ => None,
                };
                if !of.is_some_and(|of| private.contains(&of)) {
                    named.implementation(item);
                }
            }
            item => named.item(item),
        }
    }
    named.refused
}

#[test]
fn the_public_api_names_no_other_crates_types() {
    let dependencies = dependencies();
    assert!(dependencies.contains("reqwest"), "the manifest was read");
    let mut paths = Vec::new();
    files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut paths);
    assert!(paths.len() > 50, "the source was found");
    let mut found = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        found.extend(refused(&text, &dependencies).into_iter().map(|name| format!("{}: {name}", path.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_foreign_type_is_found_wherever_it_stands() {
    let dependencies = BTreeSet::from(["reqwest", "rusqlite", "chrono"].map(str::to_owned));
    for text in [
        "use reqwest::Client; pub struct Source { pub client: Client }",
        "pub struct Source; impl Source { pub fn of(client: reqwest::Client) -> Self { Self } }",
        "use rusqlite::Error as Bad; pub struct StoreError; impl From<Bad> for StoreError { fn from(_: Bad) -> Self { Self } }",
        "pub trait Store { fn get(&self) -> Result<(), rusqlite::Error>; }",
        "pub enum Failure { Sql(rusqlite::Error) }",
        "pub struct Source; setters!(Source { with_client(client: reqwest::Client) => Some(client); });",
        "pub use reqwest::Url;",
        "use chrono::Local; pub fn now() -> chrono::DateTime<Local> { Local::now() }",
    ] {
        assert_eq!(refused(text, &dependencies).len(), 1, "{text}");
    }
    let private =
        "use reqwest::Client; struct Inner { client: Client } pub struct Source { inner: Inner, client: Client }";
    assert!(refused(private, &dependencies).is_empty());
}

/// What follows each `before` in a text, up to `end`.
fn each_after<'a>(text: &'a str, before: &'a str, end: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// Links to a page's headings are not checked by rustdoc.
#[test]
fn every_rule_that_is_cited_stands_in_the_guide() {
    let source = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let rules = fs::read_to_string(source.join("guide/rules.md")).unwrap();
    let anchors: BTreeSet<&str> = each_after(&rules, "<a id=\"", &['"']).collect();
    assert!(anchors.contains("r11-10"), "the anchors were found");
    let mut paths = Vec::new();
    files(source, &mut paths);
    let pages = fs::read_dir(source.join("guide")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut cited = 0;
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for anchor in each_after(&text, "rules#", &[')', ']', '`']) {
            cited += 1;
            assert!(anchors.contains(anchor), "{} cites #{anchor}", path.display());
        }
    }
    assert!(cited > 70, "the citations were found");
    for anchor in each_after(&rules, "](#", &[')']) {
        assert!(anchors.contains(anchor), "the page of the rules cites #{anchor}");
    }
}
