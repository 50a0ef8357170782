//! Settings, in ecobee's words where it has them.

use model::TemperatureScale;
use serde::{Deserialize, Serialize};

use crate::temperature::{Delta, Temp};

/// What the household chose (`hvacMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HvacMode {
    /// Nothing runs, save the frost floor and the high limit.
    #[default]
    Off,
    /// Heating.
    Heat,
    /// Cooling.
    Cool,
    /// Both, each towards its own set point.
    Auto,
    /// Auxiliary heat without the heat pump.
    AuxHeatOnly,
}

impl HvacMode {
    /// Whether heating may be asked for.
    pub fn heats(self) -> bool {
        matches!(self, Self::Heat | Self::Auto | Self::AuxHeatOnly)
    }

    /// Whether cooling may be asked for.
    pub fn cools(self) -> bool {
        matches!(self, Self::Cool | Self::Auto)
    }

    /// ecobee's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Heat => "heat",
            Self::Cool => "cool",
            Self::Auto => "auto",
            Self::AuxHeatOnly => "auxHeatOnly",
        }
    }

    /// The mode with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Off, Self::Heat, Self::Cool, Self::Auto, Self::AuxHeatOnly].into_iter().find(|m| m.as_str() == word)
    }
}

/// How the fan is asked to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FanMode {
    /// With heating and cooling, and its minutes in each hour.
    #[default]
    Auto,
    /// Always.
    On,
}

/// What brings fresh air (`ventilatorType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VentilatorType {
    /// There is none.
    #[default]
    None,
    /// A damper or fan.
    Ventilator,
    /// Heat recovery.
    Hrv,
    /// Heat and moisture recovery.
    Erv,
}

/// What is installed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Equipment {
    /// Stages of heating besides auxiliary heat, 0 to 2.
    pub heat_stages: u8,
    /// Stages of cooling, 0 to 2.
    pub cool_stages: u8,
    /// Heating stages are a heat pump: one compressor for heating and cooling.
    pub has_heat_pump: bool,
    /// Air is moved by a fan.
    pub has_forced_air: bool,
    /// Heating is a boiler: the fan is not needed with it.
    pub has_boiler: bool,
    /// There is auxiliary heat.
    pub has_aux: bool,
    /// The reversing valve is energised in cooling (else in heating).
    pub heat_pump_reversal_on_cool: bool,
    /// The fan must be called with heating (a furnace runs it by itself).
    pub fan_control_required: bool,
    /// There is a humidifier.
    pub has_humidifier: bool,
    /// There is a dehumidifier.
    pub has_dehumidifier: bool,
    /// What brings fresh air.
    pub ventilator_type: VentilatorType,
    /// The equipment is switched by another thermostat, which is given set points and a mode: no relay is this one's.
    pub is_guided: bool,
    /// When nobody commands the relays any more, the equipment's own control takes over. Without it the frost floor
    /// needs a running hub, and set-up says so.
    pub has_own_control: bool,
}

impl Default for Equipment {
    /// One stage of heating and one of cooling with a fan.
    fn default() -> Self {
        Self {
            heat_stages: 1,
            cool_stages: 1,
            has_heat_pump: false,
            has_forced_air: true,
            has_boiler: false,
            has_aux: false,
            heat_pump_reversal_on_cool: true,
            fan_control_required: false,
            has_humidifier: false,
            has_dehumidifier: false,
            ventilator_type: VentilatorType::None,
            is_guided: false,
            has_own_control: false,
        }
    }
}

/// The ventilator's mode (`vent`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VentMode {
    /// Its minutes in each hour.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What the household and its installer set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// Off, heat, cool, auto, auxiliary only.
    pub hvac_mode: HvacMode,
    /// The scale in which the household counts.
    pub scale: TemperatureScale,
    /// Between the thresholds of turning on and off: see [`Delta::around`].
    pub stage1_heating_differential: Delta,
    /// The same for cooling.
    pub stage1_cooling_differential: Delta,
    /// So far from the set point the second stage joins.
    pub stage2_delta: Delta,
    /// After the first stage has run this long without reaching the set point, the second joins.
    pub stage2_after_s: u32,
    /// So far below the set point auxiliary heat may join the heat pump.
    pub aux_delta: Delta,
    /// The heat pump is given this long before auxiliary heat joins, unless it is locked out.
    pub aux_after_s: u32,
    /// Least distance of the two set points in auto.
    pub heat_cool_min_delta: Delta,
    /// Set points of heating lie within.
    pub heat_range: (Temp, Temp),
    /// Set points of cooling lie within.
    pub cool_range: (Temp, Temp),
    /// No room is left below it, in any mode.
    pub frost_floor: Temp,
    /// Heating ends above it whatever is asked, and cooling starts where there is any.
    pub high_limit: Temp,
    /// The fan runs at least so many minutes of each hour.
    pub fan_min_on_time: u8,
    /// The fan runs on so long after heating, seconds.
    pub heat_dissipation_s: u32,
    /// The fan runs on so long after cooling, seconds.
    pub cool_dissipation_s: u32,
    /// Relative humidity at which the humidifier aims, %; `None`: off.
    pub humidity: Option<u8>,
    /// The humidifier holds back where windows would run with water.
    pub condensation_avoid: bool,
    /// Relative humidity above which the air is dried, %; `None`: off.
    pub dehumidifier_level: Option<u8>,
    /// Cooling may dry the air (`dehumidifyWithAC`).
    pub dehumidify_with_ac: bool,
    /// Drying may cool so far below the set point.
    pub dehumidify_overcool_offset: Delta,
    /// The ventilator's mode.
    pub vent: VentMode,
    /// Its least minutes of each hour.
    pub ventilator_min_on_time: u8,
    /// It may cool at night when outdoors is cooler.
    pub ventilator_free_cooling: bool,
    /// No heating ahead of the program (`disablePreHeating`).
    pub disable_pre_heating: bool,
    /// No cooling ahead of the program (`disablePreCooling`).
    pub disable_pre_cooling: bool,
    /// No ending early before the program asks for less.
    pub disable_coasting: bool,
    /// An occupied house is not treated as away, nor an empty one as home (`autoAway`).
    pub auto_away: bool,
    /// Without motion for this long the house counts as empty, seconds.
    pub auto_away_after_s: u32,
    /// Rooms in use weigh in the average (`followMeComfort`).
    pub follow_me_comfort: bool,
    /// An opening open this long pauses heating and cooling, seconds.
    pub open_window_after_s: u32,
    /// Closed this long ends the pause, seconds.
    pub closed_window_after_s: u32,
    /// Ignore openings.
    pub open_window_bypass: bool,
    /// What demand response does by default.
    pub dr_accept: DrAccept,
    /// Below it an alert says so.
    pub cold_temp_alert: Option<Temp>,
    /// Above it an alert says so.
    pub hot_temp_alert: Option<Temp>,
    /// Below it an alert says so, %.
    pub humidity_low_alert: Option<u8>,
    /// Above it an alert says so, %.
    pub humidity_high_alert: Option<u8>,
    /// Hours of moving air after which the filter is due, as a new thermostat reminds of it; `None`: no reminder.
    pub filter_life_h: Option<u32>,
    /// A sensor that has said nothing for this long is stale, seconds.
    pub sensor_stale_s: u32,
    /// A fine sensor whose value has not moved for this long is frozen, seconds.
    pub sensor_frozen_s: u32,
}

/// What is done with a utility's request (`drAccept`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrAccept {
    /// Taken unless the household declines.
    #[default]
    DefaultAccept,
    /// Left unless the household accepts.
    DefaultDecline,
    /// Left.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hvac_mode: HvacMode::Off,
            scale: TemperatureScale::Celsius,
            stage1_heating_differential: Delta::from_milli_k(500),
            stage1_cooling_differential: Delta::from_milli_k(500),
            stage2_delta: Delta::from_tenths_f(15),
            stage2_after_s: 30 * 60,
            aux_delta: Delta::from_tenths_f(20),
            aux_after_s: 30 * 60,
            heat_cool_min_delta: Delta::from_tenths_f(50),
            heat_range: (Temp::from_tenths_f(450), Temp::from_tenths_f(790)),
            cool_range: (Temp::from_tenths_f(650), Temp::from_tenths_f(920)),
            frost_floor: Temp::from_tenths_c(70),
            high_limit: Temp::from_tenths_c(330),
            fan_min_on_time: 0,
            heat_dissipation_s: 60,
            cool_dissipation_s: 45,
            humidity: None,
            condensation_avoid: true,
            dehumidifier_level: None,
            dehumidify_with_ac: false,
            dehumidify_overcool_offset: Delta::ZERO,
            vent: VentMode::Auto,
            ventilator_min_on_time: 0,
            ventilator_free_cooling: false,
            disable_pre_heating: false,
            disable_pre_cooling: false,
            disable_coasting: false,
            auto_away: false,
            auto_away_after_s: 2 * 3600,
            follow_me_comfort: false,
            open_window_after_s: 300,
            closed_window_after_s: 120,
            open_window_bypass: false,
            dr_accept: DrAccept::DefaultAccept,
            cold_temp_alert: Some(Temp::from_tenths_c(120)),
            hot_temp_alert: Some(Temp::from_tenths_c(350)),
            humidity_low_alert: None,
            humidity_high_alert: Some(75),
            filter_life_h: Some(300),
            sensor_stale_s: 20 * 60,
            sensor_frozen_s: 3 * 3600,
        }
    }
}
