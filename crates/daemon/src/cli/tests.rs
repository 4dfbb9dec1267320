//! What holds for every command that can be typed.

use clap::{Command, CommandFactory, Parser as _};

use super::Cli;

/// Every command that does something, with the words that lead to it.
fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
    let path = format!("{path}{} ", command.get_name());
    if command.get_subcommands().next().is_none() {
        found.push((path.trim_end().to_owned(), command.clone()));
    }
    command.get_subcommands().for_each(|below| leaves(below, &path, found));
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    leaves(&Cli::command(), "", &mut found);
    found
}

/// The examples in the help of a command.
fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    help.lines().skip_while(|line| *line != "Examples:").skip(1).map(|line| line.trim().to_owned()).collect()
}

/// The words of an example, as a shell would make them; what it does with files is cut off.
fn words(example: &str) -> Vec<String> {
    let typed = example.split(['<', '>']).next().unwrap_or_default();
    let pieces = typed.split('"').enumerate();
    pieces
        .flat_map(|(at, piece)| match at % 2 {
            1 => vec![piece.to_owned()],
            _ => piece.split_whitespace().map(str::to_owned).collect(),
        })
        .collect()
}

#[test]
fn the_command_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn who_has_a_choice_is_shown_examples() {
    let all = all();
    assert!(all.len() > 30, "{}", all.len());
    let without: Vec<_> = all
        .iter()
        .filter(|(_, command)| command.get_arguments().filter(|argument| !argument.is_global_set()).count() >= 2)
        .filter(|(_, command)| examples(command).len() < 2)
        .map(|(path, _)| path)
        .collect();
    assert!(without.is_empty(), "no examples: {without:?}");
}

#[test]
fn every_example_can_be_typed_and_is_of_its_own_command() {
    let mut tried = 0;
    for (path, command) in all() {
        for example in examples(&command) {
            assert!(example.starts_with(&format!("{path} ")) || example == path, "{path}: {example}");
            if let Err(error) = Cli::try_parse_from(words(&example)) {
                panic!("{example}: {error}");
            }
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried}");
}
