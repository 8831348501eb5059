//! What a build warns of before anything is run for it: BuildKit's checks, and arguments that nobody asks for.

use build::check::{self, Input, Options, Report};
use build::diagnostic::Diagnostic;
use build::ignore::Ignore;
use build::progress::{Event, Teller};
use build::request::Request;
use build::text::Span;

use super::{Failed, Read, Resolved};
use crate::error::Error;

fn options(request: &Request, read: &Read) -> Result<Options, Failed> {
    let options = Options::of(&read.file, &request.arguments);
    options.map_err(|error| Failed::from(Error::invalid(error)))
}

fn input<'a>(read: &'a Read, ignore: Option<&'a Ignore>) -> Input<'a> {
    Input { file: &read.file, stages: &read.stages, request: &read.asked, ignore, image: &|_| None }
}

/// Tells what was found; an error if the build is not to go on with it.
async fn tell(report: Report, teller: &Teller) -> Result<(), Failed> {
    for diagnostic in report.warnings {
        let rule = diagnostic.rule.and_then(check::Rule::named);
        let url = rule.map(check::Rule::url).unwrap_or_default();
        let _ = teller.send(Event::Warning { diagnostic, url }).await;
    }
    match report.failure {
        Some(failure) => Err(Error::invalid(failure).into()),
        None => Ok(()),
    }
}

/// Of what the Dockerfile says.
pub(super) async fn of_text(request: &Request, read: &Read, teller: &Teller) -> Result<(), Failed> {
    let report = {
        let ignore = super::ignore(request)?.0;
        check::check(&input(read, Some(&ignore)), &options(request, read)?)
    };
    let unconsumed = read.stages.unconsumed(&read.file, &request.arguments);
    let told = tell(report, teller).await;
    if !unconsumed.is_empty() {
        let message = format!("One or more build-args [{}] were not consumed", unconsumed.join(" "));
        let diagnostic = Diagnostic::warning(Span::default(), message);
        let _ = teller.send(Event::Warning { diagnostic, url: String::new() }).await;
    }
    told
}

/// Of the images that it begins with.
pub(super) async fn of_bases(
    request: &Request,
    read: &Read,
    images: &[Resolved],
    teller: &Teller,
) -> Result<(), Failed> {
    let report = check::check_bases(&input(read, None), &options(request, read)?, &|name, platform| {
        let found = images.iter().find(|image| image.name == name && image.platform.as_ref() == platform)?;
        Some(found.image.config.platform()).filter(|found| !found.architecture.is_empty())
    });
    tell(report, teller).await
}
