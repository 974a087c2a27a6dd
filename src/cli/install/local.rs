//! What a runner would run without asking a registry.
//!
//! `npx` prefers what stands in `node_modules` of its working directory and above, programs of a
//! `package.json` there, and what is installed for all; `uvx` a tool that is installed. Invariant: what is installed from a registry
//! replaces nothing of the same name that the operator has put there.

use std::path::{Path, PathBuf};

use crate::package::{Spec, program_before_registry, project_settings};

use super::tool::{Step, Tool};

/// Refuses what `npx` would find without a registry, or in one that only a project names.
pub(super) async fn refuse_npm(tool: &Tool<'_>, spec: &Spec, npm: &str) -> anyhow::Result<()> {
    let home = std::env::var_os("HOME").and_then(|home| PathBuf::from(home).canonicalize().ok());
    let cwd = match &tool.backend.child.cwd {
        Some(cwd) => cwd.canonicalize()?,
        None => std::env::current_dir()?,
    };
    if let Some(settings) = project_settings(&cwd, home.as_deref()).first() {
        anyhow::bail!(
            "`npx` would go by {}, which is not read here: move its settings to the user's .npmrc",
            settings.display()
        );
    }
    for folder in cwd.ancestors() {
        refuse(&folder.join("node_modules").join(&spec.name))?;
    }
    if let (None, Some(word)) = (&spec.program, spec.packages.first())
        && let Some(found) = program_before_registry(word, &cwd)
    {
        return Err(in_the_way(&found));
    }
    let root = asked(tool, npm, &["root", "--global"]).await?;
    // `lib/node_modules` and `bin` of one prefix.
    let prefix = root.ancestors().nth(2).unwrap_or(&root).to_owned();
    refuse(&root.join(&spec.name))?;
    match (&spec.program, spec.packages.first()) {
        (None, Some(word)) => refuse(&prefix.join("bin").join(word)),
        _ => Ok(()),
    }
}

/// Refuses a package that is installed as a tool.
pub(super) async fn refuse_uv(tool: &Tool<'_>, spec: &Spec, uv: &str) -> anyhow::Result<()> {
    let tools = asked(tool, uv, &["tool", "dir"]).await?;
    let name = spec.name.to_ascii_lowercase().replace(['_', '.'], "-");
    refuse(&tools.join(name))
}

fn refuse(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(in_the_way(path))
}

fn in_the_way(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "it would run {}, which is there without a registry: remove it, or name it in `command`",
        path.display()
    )
}

/// The folder that a tool names.
async fn asked(tool: &Tool<'_>, program: &str, words: &[&str]) -> anyhow::Result<PathBuf> {
    let step = Step {
        program: program.to_owned(),
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        folder: Path::new("/"),
        env: Vec::new(),
    };
    let said = tool.run(&step).await?;
    let folder = PathBuf::from(said.lines().next_back().unwrap_or_default().trim());
    anyhow::ensure!(
        folder.is_absolute(),
        "`{}` names no folder",
        words.join(" ")
    );
    Ok(folder)
}
