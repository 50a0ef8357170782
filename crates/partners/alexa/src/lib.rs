//! Alexa Smart Home API v3: parse directives, render events from disclosed values.
