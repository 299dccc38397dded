//! A headless Chromium, spoken to in its DevTools protocol over a pipe: messages are JSON, each ended by a zero byte.
//! <https://chromedevtools.github.io/devtools-protocol/>

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// One page in one browser.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    next_id: u64,
    /// Errors on the console, exceptions, and whatever was asked of a network.
    pub complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it and opens a file.
    pub fn open(file: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The pipe's ends are descriptors 3 and 4 there.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars \
                      --remote-debugging-pipe --user-data-dir=\"$0\" about:blank 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1";
        let mut child =
            Command::new("sh").args(["-c", script]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|length| length > 0) {
                message.pop();
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self { child, to, from, session: None, next_id: 0, complaints: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}))["sessionId"].clone();
        browser.session = Some(session.as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({"url": format!("file://{}", file.display())}));
        while browser.next()["method"] != "Page.loadEventFired" {}
        browser
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true, "awaitPromise": true}));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Light or dark, on a screen or on paper.
    pub fn media(&mut self, medium: &str, scheme: &str) {
        self.call("Emulation.setEmulatedMedia", json!({"media": medium, "features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    /// What is to be seen of it in a window of this size, as PNG in base 64.
    pub fn screenshot(&mut self, width: u32, height: u32) -> String {
        self.call("Emulation.setDeviceMetricsOverride", json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}));
        self.call("Page.captureScreenshot", json!({"format": "png"}))["data"].as_str().unwrap().to_owned()
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The next message; complaints are kept.
    fn next(&mut self) -> Value {
        let message =
            self.from.recv_timeout(Duration::from_secs(60)).expect("chromium does not answer; is it installed? tools/setup does that");
        let is_foreign = |url: &Value| url.as_str().is_some_and(|url| !url.starts_with("file://") && !url.starts_with("data:"));
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled" | "Page.javascriptDialogOpening") => {
                self.complaints.push(message.to_string());
            }
            Some("Network.requestWillBeSent") if is_foreign(&message["params"]["request"]["url"]) => {
                self.complaints.push(message.to_string())
            }
            _ => {}
        }
        message
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
