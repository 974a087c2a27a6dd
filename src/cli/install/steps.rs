//! One installation, from an empty folder to its record.
//!
//! Invariant: the folder has its last byte before the record names it, and one that failed is gone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    package::{Place, Record, Runner, Spec, main_program},
    pin::{
        hidden::escape,
        origin::{self, Cache},
    },
};

use super::{
    environment::Environment,
    files, local,
    tool::{Step, Tool},
};

/// What is to be installed, and where.
pub(super) struct Order<'a> {
    pub(super) tool: Tool<'a>,
    pub(super) spec: Spec,
    pub(super) place: Place,
    /// The file that names the backend.
    pub(super) config: &'a Path,
    /// Packages may run scripts of theirs.
    pub(super) scripts: bool,
}

impl Order<'_> {
    /// The record that is there, whatever it is of.
    pub(super) fn in_use(&self) -> Option<Record> {
        Record::parse(&fs::read(self.place.record()).ok()?)
    }

    /// Whether there is nothing to do.
    pub(super) fn is_met_by(&self, record: &Record) -> bool {
        let folder = self.place.folder.join(&record.folder);
        let whole = || {
            let found = origin::installed(&folder, &Cache::default());
            found.is_ok_and(|(_, digest)| digest.to_string() == record.digest)
        };
        record.spec == self.spec.digest()
            && (record.scripts || !self.scripts)
            && self.place.program(record).exists()
            && whole()
    }

    /// The other configuration that an installation was made for, if that is still there: two files may
    /// share a folder of packages and have backends of the same name.
    pub(super) fn taken_by(&self, record: &Record) -> Option<PathBuf> {
        let other = PathBuf::from(record.config.as_ref()?);
        let own = fs::canonicalize(self.config).ok();
        let there = other.try_exists().unwrap_or(true);
        (own.is_none_or(|own| own != other) && there).then_some(other)
    }

    /// Installs, records, and removes what nobody can be running any more.
    pub(super) async fn carry_out(&self, before: Option<&Record>) -> anyhow::Result<Record> {
        let place = &self.place.folder;
        let folder =
            files::begin(place).with_context(|| format!("can't write in {}", place.display()))?;
        let record = match self.fill(&folder).await {
            Ok(record) => record,
            Err(error) => {
                files::discard(&folder);
                return Err(error);
            }
        };
        if let Some(before) = before {
            files::retire(&place.join(&before.folder));
        }
        let path = self.place.record();
        files::replace(&path, &record.text())
            .with_context(|| format!("can't write {}", path.display()))?;
        let kept = [Some(&record), before].into_iter().flatten();
        let kept: Vec<_> = kept.map(|record| &*record.folder).collect();
        files::sweep(place, &kept);
        Ok(record)
    }

    /// Packages that have scripts which were not run.
    pub(super) fn unrun_scripts(&self, record: &Record) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Lock {
            packages: std::collections::BTreeMap<String, Entry>,
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Entry {
            #[serde(default)]
            has_install_script: bool,
        }
        if record.scripts || self.spec.runner != Runner::Npm {
            return Vec::new();
        }
        let folder = self.place.folder.join(&record.folder);
        let text = fs::read(folder.join("package-lock.json")).unwrap_or_default();
        let lock = serde_json::from_slice(&text);
        let packages = lock.map_or_else(|_| Default::default(), |lock: Lock| lock.packages);
        let with_scripts = packages.iter().filter(|(_, it)| it.has_install_script);
        with_scripts
            .map(|(path, _)| {
                path.rsplit("node_modules/")
                    .next()
                    .unwrap_or(path)
                    .to_owned()
            })
            .collect()
    }

    async fn fill(&self, folder: &Path) -> anyhow::Result<Record> {
        let program = match self.spec.runner {
            Runner::Npm => self.with_npm(folder).await?,
            Runner::Uv => self.with_uv(folder).await?,
        };
        files::settle(folder).context("can't close its files to others")?;
        let (mut packages, digest) =
            origin::installed(folder, &Cache::default()).map_err(anyhow::Error::msg)?;
        if let Some(line) = packages.iter().find(|line| escape(line) != **line) {
            anyhow::bail!("a package's name can't be shown as it is: {}", escape(line));
        }
        let wanted = plain(&self.spec.name);
        let is_main = |line: &String| plain(line.split(' ').next().unwrap_or("")) == wanted;
        packages.sort_by_key(|line| !is_main(line));
        let name = folder.file_name().unwrap_or_default().display().to_string();
        let mut record = Record::new(self.spec.digest(), name, program);
        record.packages = packages;
        record.digest = digest.to_string();
        record.scripts = self.scripts;
        let config = fs::canonicalize(self.config).ok();
        record.config = config.and_then(|path| path.into_os_string().into_string().ok());
        Ok(record)
    }

    async fn with_npm(&self, folder: &Path) -> anyhow::Result<String> {
        let npm = self.tool.installer(Runner::Npm)?;
        local::refuse_npm(&self.tool, &self.spec, &npm).await?;
        // npm would take the name from the folder, which is another one each time.
        fs::write(
            folder.join("package.json"),
            "{\"name\":\"packages\",\"private\":true}\n",
        )?;
        let mut arguments: Vec<_> = NPM.iter().map(|word| (*word).to_owned()).collect();
        arguments.push(format!("--ignore-scripts={}", !self.scripts));
        if !self.scripts {
            arguments.extend(REGISTRIES_ONLY.iter().map(|word| (*word).to_owned()));
        }
        arguments.extend(self.spec.options.iter().cloned());
        arguments.push("--".to_owned());
        arguments.extend(self.spec.packages.iter().cloned());
        let closed: &[_] = if self.scripts { &[] } else { &[NO_GIT] };
        let step = Step {
            program: npm,
            arguments,
            folder,
            env: closed.to_vec(),
        };
        self.tool.run(&step).await?;
        let modules = folder.join("node_modules");
        let program = match &self.spec.program {
            Some(program) => program.clone(),
            None => {
                let manifest = modules.join(&self.spec.name).join("package.json");
                let manifest = fs::read_to_string(&manifest)
                    .with_context(|| format!("{} was not installed", self.spec.name))?;
                main_program(&self.spec.name, &manifest).map_err(|names| {
                    let name = &self.spec.name;
                    anyhow::anyhow!(
                        "which program {name} runs can't be told: {}",
                        choice(&names)
                    )
                })?
            }
        };
        self.found(folder, "node_modules/.bin", &program)
    }

    async fn with_uv(&self, folder: &Path) -> anyhow::Result<String> {
        let uv = self.tool.installer(Runner::Uv)?;
        local::refuse_uv(&self.tool, &self.spec, &uv).await?;
        let root = Path::new("/");
        let shown = folder.display().to_string();
        let python = folder.join("bin/python").display().to_string();
        let words = |words: &[&str]| {
            words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>()
        };
        let mut arguments = words(&["venv", "--quiet", "--no-project"]);
        if let Some(python) = &self.spec.python {
            arguments.push(format!("--python={python}"));
        }
        arguments.push(shown.clone());
        // From the root, so that no project's settings are found on the way up.
        self.step(uv.clone(), arguments, root).await?;
        let environment = Environment::read(folder).context("`uv` made no environment")?;
        let mut arguments = words(&["pip", "install", "--quiet", "--python", &python]);
        // Not as links to files of a cache that others may change.
        arguments.push("--link-mode=copy".to_owned());
        // It would run code that packages bring along.
        arguments.push("--no-compile-bytecode".to_owned());
        if !self.scripts {
            arguments.push("--no-build".to_owned());
        }
        arguments.extend(self.spec.options.iter().cloned());
        arguments.push("--".to_owned());
        arguments.extend(self.spec.packages.iter().cloned());
        self.step(uv, arguments, root).await?;
        environment.examine()?;
        self.compile(&python, folder).await?;
        let program = self.spec.program.as_deref().unwrap_or(&self.spec.name);
        self.found(folder, "bin", program)
    }

    /// Servers can't write there, and would compile everything at each start. The same files get the
    /// same code: the seed is fixed, no time and no path of this folder gets into it.
    async fn compile(&self, python: &str, folder: &Path) -> anyhow::Result<()> {
        let folder = folder.display().to_string();
        let lib = format!("{folder}/lib");
        // Without `site`: it would run code that packages bring along.
        let words = ["-S", "-m", "compileall", "-q", "-s", &folder];
        let words = words.into_iter().chain(COMPILED).chain([lib.as_str()]);
        let step = Step {
            program: python.to_owned(),
            arguments: words.map(str::to_owned).collect(),
            folder: Path::new("/"),
            env: vec![
                ("PYTHONHASHSEED", "0"),
                ("PYTHONPATH", ""),
                ("PYTHONHOME", ""),
            ],
        };
        // Some packages have files that are no Python of this version.
        let _ = self.tool.run(&step).await;
        Ok(())
    }

    async fn step(&self, program: String, arguments: Vec<String>, at: &Path) -> anyhow::Result<()> {
        let step = Step {
            program,
            arguments,
            folder: at,
            env: Vec::new(),
        };
        self.tool.run(&step).await.map(drop)
    }

    /// The program's path from the folder on, if it is there.
    fn found(&self, folder: &Path, programs: &str, name: &str) -> anyhow::Result<String> {
        let path = format!("{programs}/{name}");
        let mode = fs::metadata(folder.join(&path)).map(|meta| meta.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o111 != 0) {
            return Ok(path);
        }
        let entries = fs::read_dir(folder.join(programs)).into_iter().flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !ENVIRONMENT.iter().any(|own| name.starts_with(own)))
            .collect();
        names.sort();
        let package = &self.spec.name;
        anyhow::bail!("{package} has no program `{name}`: {}", choice(&names))
    }
}

fn choice(names: &[String]) -> String {
    match names {
        [] => "it has none".to_owned(),
        names => format!("there are {}", names.join(", ")),
    }
}

/// As names of Python packages are compared; names of npm's stay apart.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

/// How npm installs, whatever its settings are.
const NPM: &[&str] = &[
    "install",
    "--global=false",
    "--workspaces=false",
    "--install-strategy=hoisted",
    "--package-lock=true",
    "--save=true",
    "--bin-links=true",
    "--dry-run=false",
    // Addresses may hold credentials, and the child reads the lock file.
    "--omit-lockfile-registry-resolved=true",
    "--omit=dev",
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
];
/// What isn't from a registry is built where it is fetched, with the settings that it brings along.
/// An npm that doesn't know the first two has no git, nor has one that it runs.
const REGISTRIES_ONLY: &[&str] = &[
    "--allow-git=none",
    "--allow-remote=none",
    "--git=/nonexistent/git",
];
const NO_GIT: (&str, &str) = ("npm_config_git", "/nonexistent/git");
const COMPILED: [&str; 2] = ["--invalidation-mode", "checked-hash"];
/// What an environment has of its own.
const ENVIRONMENT: &[&str] = &["python", "activate", "deactivate", "pydoc"];
