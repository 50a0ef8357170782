//! The one crate with sockets towards partners: every body passes its INTENT here.
