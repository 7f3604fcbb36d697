//! Formatting of errors for operators.

use std::error::Error;
use std::fmt;

/// An error with its causes, in one line. A cause that the text before it says already is not said again.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        formatter.write_str(&said)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(formatter, ": {text}")?;
                said.push_str(&text);
            }
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(&'static str, Option<Box<Self>>);

    impl fmt::Display for Told {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Told {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|told| told as &dyn Error)
        }
    }

    fn told(text: &'static str, cause: Told) -> Told {
        Told(text, Some(Box::new(cause)))
    }

    #[test]
    fn every_cause_is_said_once() {
        let error =
            told("cannot dial", told("TLS: bad key", told("bad key", Told("the file is empty", None))));
        assert_eq!(Chain(&error).to_string(), "cannot dial: TLS: bad key: the file is empty");
    }
}
