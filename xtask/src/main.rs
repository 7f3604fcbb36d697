//! Developer commands.
mod codegen;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((command, rest)) if command == "codegen" => codegen::run(rest),
        _ => anyhow::bail!("usage: xtask codegen openapi|protobuf"),
    }
}
