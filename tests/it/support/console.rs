//! `taskgrant login` as somebody runs it at a terminal, with a browser of the test's.

use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Parser;
use taskgrant::cli::login;
use taskgrant::clock::SystemClock;
use taskgrant::terminal::output::{Exit, Output};

#[derive(Parser)]
struct Login {
    #[command(flatten)]
    args: login::LoginArgs,
}

/// What a command writes, readable while it runs.
#[derive(Clone, Default)]
pub(crate) struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The page that is printed for a browser, once it is.
    async fn page(&self) -> String {
        loop {
            if let Some(url) = self.text().lines().find(|line| line.contains("/authorize?")) {
                return url.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs `login` with these options; `browse` is what somebody does with the page that it prints, if it prints one. The answer holds
/// both outputs.
pub(crate) async fn login<O: AsRef<str>>(
    options: impl IntoIterator<Item = O>,
    browse: impl AsyncFnOnce(String),
) -> (Exit, String, String) {
    let options = options.into_iter().map(|option| option.as_ref().to_owned());
    let args = Login::parse_from(std::iter::once("x".to_owned()).chain(options)).args;
    let (paper, complaints) = (Paper::default(), Paper::default());
    let (mut out, mut err, mut stdin) = (paper.clone(), complaints.clone(), std::io::empty());
    let output = &mut Output { out: &mut out, err: &mut err };
    let exit = {
        let mut run = pin!(login::run(&args, &SystemClock, &mut stdin, output));
        let browser = pin!(async { browse(paper.page().await).await });
        tokio::select! {
            exit = &mut run => exit,
            () = browser => run.await,
        }
    };
    (exit, paper.text(), complaints.text())
}
