//! The history: five minutes in a row, as ecobee keeps them.

use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::guard::{Output, Relays};
use crate::program::ClimateRef;
use crate::settings::HvacMode;
use crate::temperature::Temp;
use crate::thermostat::Decision;

/// Length of an interval.
pub const INTERVAL_MS: i64 = 300_000;

/// Five minutes. Temperatures and set points are those at its start, seconds those within it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// Its start, milliseconds since the epoch, a multiple of five minutes.
    pub at_ms: i64,
    /// The mode.
    pub mode: HvacMode,
    /// The event that ran.
    pub event: Option<EventType>,
    /// An optimal start ran.
    pub smart_recovery: bool,
    /// The comfort setting of the program.
    pub climate: ClimateRef,
    /// Heating set point.
    pub heat: Temp,
    /// Cooling set point.
    pub cool: Temp,
    /// Control temperature.
    pub temperature: Option<Temp>,
    /// The same at the end.
    pub end_temperature: Option<Temp>,
    /// Relative humidity, %.
    pub humidity: Option<u8>,
    /// Outdoors.
    pub outdoor: Option<Temp>,
    /// Seconds of the first stage of heating.
    pub heat1_s: u16,
    /// Of the second.
    pub heat2_s: u16,
    /// Of auxiliary heat.
    pub aux_s: u16,
    /// Of the first stage of cooling.
    pub cool1_s: u16,
    /// Of the second.
    pub cool2_s: u16,
    /// Of the fan.
    pub fan_s: u16,
    /// Of the humidifier.
    pub humidifier_s: u16,
    /// Of the dehumidifier.
    pub dehumidifier_s: u16,
    /// Of the ventilator.
    pub ventilator_s: u16,
}

/// Gathers an interval.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accumulator {
    on_ms: [u64; 9],
    open: Option<Interval>,
}

impl Accumulator {
    /// So much time has passed with these relays.
    pub(crate) fn pass(&mut self, relays: Relays, dt_ms: u64) {
        if relays == Relays::default() {
            return;
        }
        for (sum, output) in self.on_ms.iter_mut().zip(crate::guard::OUTPUTS) {
            if relays.on(output) {
                *sum += dt_ms;
            }
        }
    }

    /// The interval that has ended, if one has.
    pub(crate) fn interval(&mut self, wall_ms: i64, decision: &Decision, outdoor: Option<Temp>) -> Option<Interval> {
        let at_ms = wall_ms - wall_ms.rem_euclid(INTERVAL_MS);
        if self.open.as_ref().is_some_and(|open| open.at_ms == at_ms) {
            return None;
        }
        let mut ended = self.open.take();
        if let Some(interval) = &mut ended {
            let on_ms = std::mem::take(&mut self.on_ms);
            let seconds = |output: Output| {
                let ms = on_ms.get(output as usize).copied().unwrap_or(0);
                u16::try_from((ms / 1000).min(INTERVAL_MS.unsigned_abs() / 1000)).unwrap_or(0)
            };
            interval.end_temperature = decision.temperature;
            (interval.heat1_s, interval.heat2_s) = (seconds(Output::Heat1), seconds(Output::Heat2));
            (interval.cool1_s, interval.cool2_s) = (seconds(Output::Cool1), seconds(Output::Cool2));
            (interval.aux_s, interval.fan_s) = (seconds(Output::Aux), seconds(Output::Fan));
            (interval.humidifier_s, interval.dehumidifier_s) =
                (seconds(Output::Humidifier), seconds(Output::Dehumidifier));
            interval.ventilator_s = seconds(Output::Ventilator);
        }
        self.open = Some(Interval {
            at_ms,
            mode: decision.mode,
            event: decision.source.event,
            smart_recovery: decision.lead.is_some_and(|l| l.running),
            climate: decision.source.climate.clone(),
            heat: decision.set_points.heat(),
            cool: decision.set_points.cool(),
            temperature: decision.temperature,
            end_temperature: None,
            humidity: decision.humidity,
            outdoor,
            heat1_s: 0,
            heat2_s: 0,
            aux_s: 0,
            cool1_s: 0,
            cool2_s: 0,
            fan_s: 0,
            humidifier_s: 0,
            dehumidifier_s: 0,
            ventilator_s: 0,
        });
        ended
    }
}
