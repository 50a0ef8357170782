//! The household's web pages and API.
