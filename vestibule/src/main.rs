//! Vestibule: what lets the small side say no and keep the product.

mod audit;
mod cli;
mod clock;
mod commands;
mod config;
mod control;
mod core;
mod demo;
mod doctor;
mod hub;
mod infer;
mod observed;
mod page;
mod server;
mod thermostat;
mod windows;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
