//! Every command line that the README and the operators' page show is one that there is.

use clap::{CommandFactory as _, Parser};

use crate::Cli;

const PAGES: [(&str, &str); 2] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/OPERATIONS.md", include_str!("../../docs/OPERATIONS.md")),
];

#[derive(Parser)]
#[command(name = "dns-lb")]
struct DnsServer {
    #[command(flatten)]
    options: dns_lb::Options,
}

/// The lines of the page's shell blocks, continued ones joined.
fn lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut inside, mut begun) = (false, String::new());
    for line in page.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        if !inside {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => begun.push_str(part),
            None => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    lines
}

/// The words of a line as a shell splits it, up to a comment or a redirection.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(end), letter) if letter == end => quote = None,
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#' | '>') if word.is_none() => break,
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What stands for something else, as something that may stand there.
fn filled(words: &[String]) -> Vec<String> {
    let mut filled: Vec<String> = Vec::new();
    for word in words {
        let value = match (filled.last().map(String::as_str), word.as_str()) {
            (Some("--ca-cert-hash"), _) => format!("sha256:{}", "0".repeat(64)),
            (Some("--hub"), "…") => "hub:6444".to_owned(),
            (_, "TAG") => "7".to_owned(),
            (_, word) => word.split('|').next().unwrap_or_default().to_owned(),
        };
        filled.push(value);
    }
    filled
}

#[test]
fn every_documented_command_can_be_given() {
    let mut count = 0;
    for (page, text) in PAGES {
        for line in lines(text) {
            let words = filled(&words(&line));
            let parsed = match words.first().map(String::as_str) {
                Some("fedctl") => Cli::try_parse_from(&words).map(drop),
                Some("dns-lb") => DnsServer::try_parse_from(&words).map(drop),
                _ => continue,
            };
            count += 1;
            assert!(
                parsed.is_ok(),
                "{page}: {line}\n{}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
        }
    }
    assert!(count > 30, "only {count} commands were found");
}

#[test]
fn every_command_stands_on_a_page() {
    let shown: Vec<Vec<String>> =
        PAGES.iter().flat_map(|(_, text)| lines(text)).map(|line| words(&line)).collect();
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        if name == "demo" {
            // It is run by cargo there.
            continue;
        }
        let on_a_page = shown.iter().any(|words| words.len() > 1 && words[0] == "fedctl" && words[1] == name);
        assert!(on_a_page, "fedctl {name} is on no page");
    }
}

/// Flags that have a unit now took a number alone before: unit files must go on working.
#[test]
fn a_number_alone_is_still_in_the_unit_that_it_was_in() {
    for line in [
        "fedctl drain taiwan --timeout 90",
        "fedctl unjoin taiwan --mode detach --timeout 60",
        "fedctl token create --hours 1",
        "fedctl demo --calm-ms 1500 --evict-after 4",
        "fedctl up --dns-ttl 1 --evict-after 300",
        "fedctl drill run --lose taiwan --app web --duration 30",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    let server = |line: &str| DnsServer::try_parse_from(line.split(' ')).map(|server| server.options).ok();
    let before = server("dns-lb --stale-after 60 --idle-timeout 500");
    let now = server("dns-lb --stale-after 1m --idle-timeout 0.5s");
    let times = |options: dns_lb::Options| (options.stale_after, options.idle_timeout);
    assert_eq!(before.map(times), now.map(times));
    assert!(
        server("dns-lb")
            .is_some_and(|options| options.idle_timeout == dns_lb::Options::default().idle_timeout)
    );
}

#[test]
fn whatever_is_listed_or_shown_is_printed_in_each_format() {
    for command in [
        "clusters",
        "health",
        "plans",
        "gate list",
        "gate log",
        "trash",
        "token list",
        "drill list",
        "traffic show web",
        "dns status",
        "dns lookup web.",
    ] {
        // As `text`, two of them had it before.
        for format in ["table", "json", "yaml", "name", "text"] {
            let line = format!("fedctl {command} -o {format}");
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
