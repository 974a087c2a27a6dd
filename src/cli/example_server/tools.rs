//! The tools: what they are called, what they take, and those that answer at once.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde_json::{Map, Value, json};

/// A result with one text.
pub(super) fn text(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }] })
}

/// A result that tells the model what went wrong.
pub(super) fn failed(reason: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": reason }], "isError": true })
}

/// Whether there is a tool of that name.
pub(super) fn knows(name: &str) -> bool {
    QUICK.contains(&name) || WAITING.contains(&name)
}

/// Runs a tool that answers at once; `None` for one that waits.
pub(super) fn quick(name: &str, arguments: &Value) -> Option<Value> {
    let outcome = match name {
        "echo" => echo(arguments),
        "time_now" => time_now(arguments),
        "calculate" => calculate(arguments),
        "uuid" => uuid(arguments),
        "environment" => environment(arguments),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|mistake| failed(&mistake)))
}

/// A tool's arguments, known to be an object with none but known keys.
pub(super) struct Arguments<'a>(Option<&'a Map<String, Value>>);

impl<'a> Arguments<'a> {
    pub(super) fn read(value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let object = match value {
            Value::Null => None,
            Value::Object(object) => Some(object),
            _ => return Err("the arguments must be an object".to_owned()),
        };
        let mut keys = object.into_iter().flat_map(Map::keys);
        match keys.find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown argument `{key}`")),
            None => Ok(Self(object)),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.0?.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        let mistake = || format!("`{key}` must be a string");
        self.get(key)
            .map(|value| value.as_str().ok_or_else(mistake))
            .transpose()
    }

    pub(super) fn integer(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, String> {
        let within = |value: &Value| value.as_u64().filter(|number| (min..=max).contains(number));
        let mistake = || format!("`{key}` must be an integer from {min} to {max}");
        self.get(key)
            .map(|value| within(value).ok_or_else(mistake))
            .transpose()
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        let number = self.get(key).and_then(Value::as_f64);
        number.ok_or_else(|| format!("`{key}` must be a number"))
    }
}

fn echo(arguments: &Value) -> Result<Value, String> {
    let arguments = Arguments::read(arguments, &["text"])?;
    Ok(text(arguments.text("text")?.ok_or("`text` is missing")?))
}

fn time_now(arguments: &Value) -> Result<Value, String> {
    let arguments = Arguments::read(arguments, &["offset"])?;
    let offset = match arguments.text("offset")? {
        None => Offset::UTC,
        Some(text) => offset(text).ok_or("`offset` must look like +02:00, -05:30 or Z")?,
    };
    let time = Timestamp::now().to_zoned(TimeZone::fixed(offset));
    Ok(text(&time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()))
}

/// Reads `Z` or `±HH:MM`, at most a day from UTC.
fn offset(text: &str) -> Option<Offset> {
    if text == "Z" {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let two_digits = |part: &str, below: i32| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<i32>()
            .ok()
            .filter(|number| digits && *number < below)
    };
    let seconds = two_digits(hours, 24)? * 3_600 + two_digits(minutes, 60)? * 60;
    Offset::from_seconds(sign * seconds).ok()
}

fn calculate(arguments: &Value) -> Result<Value, String> {
    let arguments = Arguments::read(arguments, &["operation", "a", "b"])?;
    let (a, b) = (arguments.number("a")?, arguments.number("b")?);
    let result = match arguments.text("operation")? {
        Some("add") => a + b,
        Some("subtract") => a - b,
        Some("multiply") => a * b,
        Some("divide") if b == 0.0 => return Err("division by zero".to_owned()),
        Some("divide") => a / b,
        _ => return Err("`operation` must be add, subtract, multiply or divide".to_owned()),
    };
    if !result.is_finite() {
        return Err("the result is too large".to_owned());
    }
    let structured = json!({ "result": plain(result) });
    let mut answer = text(&structured.to_string());
    answer["structuredContent"] = structured;
    Ok(answer)
}

/// Whole numbers without a fraction, as far as a double holds them exactly.
fn plain(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return json!(number as i64);
    }
    json!(number)
}

fn uuid(arguments: &Value) -> Result<Value, String> {
    let arguments = Arguments::read(arguments, &["count"])?;
    let count = arguments.integer("count", 1, 100)?.unwrap_or(1);
    let mut lines = Vec::new();
    for _ in 0..count {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(|_| "no randomness to be had")?;
        // RFC 9562: version 4, variant 10.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let [a, b, c, d, e] = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        lines.push(format!("{a}-{b}-{c}-{d}-{e}"));
    }
    Ok(text(&lines.join("\n")))
}

/// Names only: a value may be a secret.
fn environment(arguments: &Value) -> Result<Value, String> {
    Arguments::read(arguments, &[])?;
    let mut names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    Ok(text(&names.join("\n")))
}

const QUICK: &[&str] = &["echo", "time_now", "calculate", "uuid", "environment"];
const WAITING: &[&str] = &["count_down", "ask", "summarize"];

/// The answer to `tools/list`.
pub(super) fn list() -> Value {
    let tools = [
        tool("echo", "Returns the given text unchanged.").takes(
            json!({ "text": { "type": "string", "description": "What to return." } }),
            &["text"],
        ),
        tool(
            "time_now",
            "Returns the current time, to the second, as ISO 8601.",
        )
        .takes(
            json!({ "offset": {
                "type": "string",
                "pattern": "^(Z|[+-][0-9]{2}:[0-9]{2})$",
                "description": "Distance from UTC, such as +02:00. Default: Z (UTC).",
            } }),
            &[],
        ),
        calculator(),
        tool("uuid", "Returns random UUIDs (version 4), one a line.").takes(
            json!({ "count": { "type": "integer", "minimum": 1, "maximum": 100, "default": 1 } }),
            &[],
        ),
        tool(
            "environment",
            "Lists the names of the environment variables that this server was started with, never \
             their values. Behind a gateway the list is short.",
        ),
        count_down(),
        tool(
            "ask",
            "Asks the person at the client a question and returns the answer. Needs a client that \
             offers elicitation.",
        )
        .takes(json!({ "question": { "type": "string" } }), &["question"])
        .asks_the_client(),
        tool(
            "summarize",
            "Has the client's model summarize a text. Needs a client that offers sampling.",
        )
        .takes(
            json!({
                "text": { "type": "string" },
                "max_words": { "type": "integer", "minimum": 1, "maximum": 1000, "default": 60 },
            }),
            &["text"],
        )
        .asks_the_client(),
    ];
    json!({ "tools": tools.map(|tool| tool.0) })
}

fn calculator() -> Definition {
    let number = json!({ "type": "number" });
    let mut calculate = tool(
        "calculate",
        "Adds, subtracts, multiplies or divides two numbers.",
    )
    .takes(
        json!({
            "operation": { "enum": ["add", "subtract", "multiply", "divide"] },
            "a": number,
            "b": number,
        }),
        &["operation", "a", "b"],
    );
    calculate.0["outputSchema"] = object(json!({ "result": number }), &["result"]);
    calculate
}

fn count_down() -> Definition {
    let text = "Counts down to zero and reports progress at each step. Can be cancelled. \
                Takes from × delay_ms, at most ten minutes.";
    let properties = json!({
        "from": { "type": "integer", "minimum": 0, "maximum": 1000 },
        "delay_ms": {
            "type": "integer", "minimum": 0, "maximum": 10000, "default": 500,
            "description": "Milliseconds between two steps.",
        },
    });
    tool("count_down", text).takes(properties, &["from"])
}

/// A tool as `tools/list` shows it.
struct Definition(Value);

/// A tool without arguments. None of them changes anything.
fn tool(name: &str, description: &str) -> Definition {
    Definition(json!({
        "name": name,
        "description": description,
        "inputSchema": object(json!({}), &[]),
        "annotations": { "readOnlyHint": true, "openWorldHint": false },
    }))
}

impl Definition {
    fn takes(mut self, properties: Value, required: &[&str]) -> Self {
        self.0["inputSchema"] = object(properties, required);
        self
    }

    /// What comes back isn't this server's own.
    fn asks_the_client(mut self) -> Self {
        self.0["annotations"]["openWorldHint"] = true.into();
        self
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
