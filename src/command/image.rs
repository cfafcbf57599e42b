//! `exit137 image`.

use super::{fail, print};
use crate::backend::kubernetes::image::Image;
use crate::cli;
use crate::exit_status::ExitStatus;

/// Writes the image's archive and prints the image's name.
pub fn image(args: &cli::Image) -> ExitStatus {
    let image = match Image::build() {
        Ok(image) => image,
        Err(error) => return fail(&error.to_string()),
    };
    match image.write(&args.output) {
        Ok(()) => print(&format!("{}\n", image.name())),
        Err(error) => fail(&format!("cannot write {}: {error}", args.output.display())),
    }
}
