//! What outcomes are worth, and how they are counted.

use super::{Outcome, Outcomes};

impl Outcome {
    /// What an answer with this status is.
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::ClientError,
            500..=599 => Self::ServerError,
            // No class of an answer: 1xx is never the last one, and the rest does not exist.
            _ => Self::NotHttp,
        }
    }

    /// Whether the client got what it asked for: a status from 200 to 399.
    pub fn good(self) -> bool {
        match self {
            Self::Success | Self::Redirect => true,
            Self::ClientError
            | Self::ServerError
            | Self::Refused
            | Self::Reset
            | Self::TimedOut
            | Self::Cut
            | Self::NotSent
            | Self::NotHttp => false,
        }
    }

    /// Whether its time is a latency: it was answered, cut or timed out.
    pub fn has_latency(self) -> bool {
        match self {
            Self::Success
            | Self::Redirect
            | Self::ClientError
            | Self::ServerError
            | Self::TimedOut
            | Self::Cut => true,
            Self::Refused | Self::Reset | Self::NotSent | Self::NotHttp => false,
        }
    }

    /// Whether sending it again may help: the server could not answer, or failed.
    pub fn retried(self) -> bool {
        match self {
            Self::ServerError | Self::Refused | Self::Reset | Self::TimedOut | Self::Cut => true,
            Self::Success | Self::Redirect | Self::ClientError | Self::NotSent | Self::NotHttp => false,
        }
    }
}

impl Outcomes {
    /// Counts one more.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Success => &mut self.success,
            Outcome::Redirect => &mut self.redirect,
            Outcome::ClientError => &mut self.client_error,
            Outcome::ServerError => &mut self.server_error,
            Outcome::Refused => &mut self.refused,
            Outcome::Reset => &mut self.reset,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Cut => &mut self.cut,
            Outcome::NotSent => &mut self.not_sent,
            Outcome::NotHttp => &mut self.not_http,
        } += 1;
    }

    /// Adds all of another one.
    pub fn add(&mut self, other: &Self) {
        // Whole, so that no field can be forgotten.
        let Self {
            success,
            redirect,
            client_error,
            server_error,
            refused,
            reset,
            timed_out,
            cut,
            not_sent,
            not_http,
        } = other;
        self.success += success;
        self.redirect += redirect;
        self.client_error += client_error;
        self.server_error += server_error;
        self.refused += refused;
        self.reset += reset;
        self.timed_out += timed_out;
        self.cut += cut;
        self.not_sent += not_sent;
        self.not_http += not_http;
    }

    /// Answered with a status from 200 to 399.
    pub fn good(&self) -> u64 {
        self.success + self.redirect
    }

    /// All others.
    pub fn failed(&self) -> u64 {
        self.total() - self.good()
    }

    /// How many requests ended.
    pub fn total(&self) -> u64 {
        let answered = self.success + self.redirect + self.client_error + self.server_error;
        let cut_off = self.refused + self.reset + self.timed_out + self.cut;
        answered + cut_off + self.not_sent + self.not_http
    }
}
