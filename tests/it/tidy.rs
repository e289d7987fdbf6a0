//! Style that matters, as a test: the direction of imports, files that no module declares, SQL words that do not port.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    paths.sort();
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a source file is text");
    paths.iter().map(|it| (it.strip_prefix(&root).expect("found below it").to_owned(), text(it))).collect()
}

/// The top-level module that a file belongs to: `live/room.rs` is part of `live`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules in the order of `lib.rs`.
fn order(sources: &[(PathBuf, String)]) -> Vec<String> {
    let lib = &sources.iter().find(|(path, _)| path == Path::new("lib.rs")).expect("lib.rs").1;
    let declared = |line: &str| {
        Some(
            line.split("//")
                .next()?
                .trim()
                .trim_start_matches("pub ")
                .strip_prefix("mod ")?
                .strip_suffix(';')?
                .to_owned(),
        )
    };
    lib.lines().filter_map(declared).collect()
}

#[test]
fn a_file_imports_only_what_stands_above_it_in_lib_rs() {
    let sources = sources();
    let order = order(&sources);
    let rank: HashMap<&str, usize> = order.iter().enumerate().map(|(rank, name)| (name.as_str(), rank)).collect();
    let mut wrong = Vec::new();
    for (path, text) in &sources {
        let module = module_of(path);
        let Some(&own) = rank.get(module.as_str()) else { continue };
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for used in code.split("crate::").skip(1) {
                let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if rank.get(name.as_str()).is_some_and(|it| *it > own) {
                    wrong.push(format!(
                        "{}:{}: {module} uses {name}, which stands below it",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nthe order is {order:?}", wrong.join("\n"));
}

#[test]
fn every_file_is_declared_by_a_module() {
    let sources = sources();
    for (path, _) in &sources {
        let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        if matches!(path.to_str(), Some("lib.rs" | "main.rs")) {
            continue;
        }
        let folder = path.parent().expect("below src");
        let (name, parents) = if stem == "mod" {
            let name = folder.file_name().expect("mod.rs stands in a folder").to_string_lossy().into_owned();
            let above = folder.parent().expect("below src");
            (name, vec![above.join("lib.rs"), above.join("mod.rs"), above.with_extension("rs")])
        } else {
            (
                stem,
                vec![folder.join("lib.rs"), folder.join("main.rs"), folder.join("mod.rs"), folder.with_extension("rs")],
            )
        };
        let declared = sources.iter().filter(|(it, _)| parents.contains(it)).any(|(_, text)| {
            text.lines()
                .any(|line| line.split("//").next().unwrap_or_default().trim_end().ends_with(&format!("mod {name};")))
        });
        assert!(declared, "no module declares {}", path.display());
    }
}

#[test]
fn statements_keep_to_the_dialect_of_both_databases() {
    let foreign = [
        "for update",
        "now()",
        "= any(",
        "greatest(",
        "ilike",
        "interval '",
        "::bigint",
        "::text",
        "jsonb",
        "ifnull(",
        "autoincrement",
        "unixepoch",
    ];
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // db.rs is the one place that may know a single database.
        if path == Path::new("db.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default().to_lowercase();
            let sql = ["select ", "insert into ", "update ", "delete from "].iter().any(|it| code.contains(it));
            for word in foreign {
                if sql && code.contains(word) {
                    wrong.push(format!("{}:{}: `{word}` does not run on both", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_metric_is_described() {
    let sources = sources();
    let described = &sources.iter().find(|(path, _)| path == Path::new("telemetry.rs")).expect("telemetry.rs").1;
    for (path, text) in &sources {
        for name in text.split("\"showcart_").skip(1).filter_map(|it| it.split('"').next()) {
            let name = format!("\"showcart_{name}\"");
            assert!(described.contains(&name), "{}: src/telemetry.rs does not describe {name}", path.display());
        }
    }
}
