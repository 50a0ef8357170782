//! The hub from outside: its command line, its sockets and its files, with real peers.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod browser;
mod canaries;
mod command_line;
mod conditions;
mod crash;
mod demo;
mod devices_and_alexa;
mod disk;
mod doctor;
mod events;
mod exposure;
mod flood;
mod foreign;
mod grants;
mod harness;
mod hostile_client;
mod hostile_device;
mod household;
mod household_day;
mod linking;
mod linking_faults;
mod member;
mod own_broker;
mod promises;
mod record;
mod recordings;
mod thermostat;
mod thermostat_hub;
mod thermostat_pair;
mod week;
mod wire;
mod withheld;
