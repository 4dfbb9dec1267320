//! `commands.md`, from the tree of commands that `--help` is made from.

use clap::{Arg, Command};

use super::{Page, plain, sentence};

#[test]
fn commands() -> anyhow::Result<()> {
    let mut root = daemon::reference::command_line();
    root.build();
    let mut page = Page::new(
        "commands.md",
        "Commands",
        "crates/daemon/src/cli.rs",
        "What can be typed. `tocsin COMMAND --help` says the same, and `tocsin completions` and `tocsin man` make of it what a shell and `man` want. \
         How each ends: [exit codes](exit-codes.md). A customer is named by directory id or by name.",
    );
    page.paragraph("Every command also takes:");
    page.table(&["Option", ""], &options(&root, |argument| argument.is_global_set() || argument.is_set_helpful()));
    for command in typed(&root) {
        write(&mut page, command, 2);
    }
    page.settle()
}

/// Commands below, without the one that clap adds.
fn typed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| below.get_name() != "help")
}

fn write(page: &mut Page, command: &Command, depth: usize) {
    let path = command.get_bin_name().unwrap_or_else(|| command.get_name());
    page.heading(depth, &format!("`{path}`"));
    let words = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    words.split("\n\n").for_each(|paragraph| page.paragraph(&sentence(paragraph)));
    if typed(command).next().is_some() {
        typed(command).for_each(|below| write(page, below, depth + 1));
        return;
    }
    let usage = command.clone().render_usage().to_string();
    page.block("text", usage.trim_start_matches("Usage: "));
    page.table(&["", ""], &options(command, |argument| !argument.is_global_set() && !argument.is_set_helpful()));
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (before, examples) = help.split_once("Examples:\n").unwrap_or((&help, ""));
    if !before.trim().is_empty() {
        page.paragraph(&sentence(before));
    }
    if !examples.is_empty() {
        page.block("sh", &examples.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    }
}

trait Helpful {
    /// Whether it is one of those that clap adds.
    fn is_set_helpful(&self) -> bool;
}

impl Helpful for Arg {
    fn is_set_helpful(&self) -> bool {
        matches!(self.get_id().as_str(), "help" | "version")
    }
}

fn options(command: &Command, wanted: impl Fn(&Arg) -> bool) -> Vec<Vec<String>> {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set() && wanted(argument));
    arguments.map(|argument| vec![format!("`{argument}`{}", short(argument)), described(argument)]).collect()
}

fn short(argument: &Arg) -> String {
    // An argument with a long name shows itself by that.
    match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(_)) => format!(", `-{short}`"),
        _ => String::new(),
    }
}

fn described(argument: &Arg) -> String {
    let words = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut told = vec![sentence(&words)];
    let listed = |values: Vec<String>| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    if argument.get_action().takes_values() {
        let possible: Vec<_> = argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        if !possible.is_empty() {
            told.push(format!("One of {}.", listed(possible)));
        }
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
        if !defaults.is_empty() {
            told.push(format!("Default: {}.", listed(defaults)));
        }
    }
    if let Some(variable) = argument.get_env() {
        told.push(format!("Also from `{}`.", plain(&variable.to_string_lossy())));
    }
    told.join(" ")
}
