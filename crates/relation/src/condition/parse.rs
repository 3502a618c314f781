//! The syntax of CEL: an expression's tree.

use super::{
    ConditionFault,
    function::Function,
    lex::{Token, tokens},
    pattern::{self, MOST_OF_MODEL, Pattern},
    value::Value,
};

/// The longest expression, in bytes; how many parentheses may be inside each other, and how many parts.
const LENGTH: usize = 16 * 1024;
const DEPTH: usize = 64;
const HEIGHT: usize = 200;

/// A part of an expression, and where it begins.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) at: usize,
    pub(super) form: Form,
    /// How many parts are inside each other.
    height: usize,
}

impl Expression {
    /// Puts parts together, unless that becomes too high: what walks the tree calls itself.
    fn new(at: usize, form: Form) -> Result<Self, ConditionFault> {
        let height = 1 + form.parts().iter().map(|part| part.height).max().unwrap_or(0);
        if height > HEIGHT {
            return Err(ConditionFault { problem: "too many parts are inside each other".to_owned(), at });
        }
        Ok(Self { at, form, height })
    }
}

#[derive(Debug)]
pub(super) enum Form {
    Literal(Value),
    Name(String),
    Member(Box<Expression>, String),
    /// Whether a map has a key: `has(map.key)`.
    Has(Box<Expression>, String),
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Binary(Operator, Box<(Expression, Expression)>),
    And(Box<(Expression, Expression)>),
    Or(Box<(Expression, Expression)>),
    Choice(Box<(Expression, Expression, Expression)>),
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    Call(Function, Vec<Expression>),
    /// `text.matches(pattern)` with a pattern that is known.
    Matches(Box<Expression>, Pattern),
    Each(Macro, Box<Each>),
}

impl Form {
    /// What it is put together of.
    fn parts(&self) -> Vec<&Expression> {
        match self {
            Self::Literal(_) | Self::Name(_) => Vec::new(),
            Self::Member(of, _) | Self::Has(of, _) | Self::Not(of) | Self::Negate(of) | Self::Matches(of, _) => {
                vec![of]
            }
            Self::Index(of, index) => vec![of, index],
            Self::Binary(_, sides) | Self::And(sides) | Self::Or(sides) => vec![&sides.0, &sides.1],
            Self::Choice(parts) => vec![&parts.0, &parts.1, &parts.2],
            Self::List(parts) | Self::Call(_, parts) => parts.iter().collect(),
            Self::Map(parts) => parts.iter().flat_map(|(key, value)| [key, value]).collect(),
            Self::Each(_, each) => {
                [Some(&each.of), each.filter.as_ref(), Some(&each.body)].into_iter().flatten().collect()
            }
        }
    }
}

/// What a macro is about: the values, the name that each has in turn, and what is asked of it.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) of: Expression,
    pub(super) name: String,
    pub(super) filter: Option<Expression>,
    pub(super) body: Expression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What the patterns of an expression cost to be compiled, and about how many bytes they take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patterns {
    pub(super) effort: usize,
    pub(super) bytes: usize,
}

/// Reads an expression, and says what its patterns come to, also where it is refused.
pub(super) fn parse(text: &str, patterns: &mut Patterns) -> Result<Expression, ConditionFault> {
    if text.len() > LENGTH {
        return Err(ConditionFault { problem: format!("the expression is longer than {LENGTH} bytes"), at: 0 });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, next: 0, depth: 0, patterns };
    let expression = parser.expression()?;
    match parser.token() {
        Token::End => Ok(expression),
        _ => Err(parser.fault("the expression should have ended here")),
    }
}

struct Parser<'a> {
    tokens: &'a [(Token, usize)],
    next: usize,
    depth: usize,
    patterns: &'a mut Patterns,
}

type Parsed<T = Expression> = Result<T, ConditionFault>;

impl<'a> Parser<'a> {
    fn token(&self) -> &'a Token {
        static END: Token = Token::End;
        self.tokens.get(self.next).map_or(&END, |(token, _)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(_, at)| *at)
    }

    fn fault(&self, problem: &str) -> ConditionFault {
        ConditionFault { problem: problem.to_owned(), at: self.at() }
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let taken = matches!(self.token(), Token::Symbol(next) if *next == symbol);
        self.next += usize::from(taken);
        taken
    }

    fn needs(&mut self, symbol: &str) -> Parsed<()> {
        if self.takes(symbol) { Ok(()) } else { Err(self.fault(&format!("'{symbol}' is missing"))) }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.token() {
            Token::Name(name) => {
                self.next += 1;
                Ok(name.clone())
            }
            _ => Err(self.fault("a name is missing")),
        }
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.fault("the expression is too deep"));
        }
        let at = self.at();
        let condition = self.or()?;
        let parsed = if self.takes("?") {
            let yes = self.or()?;
            self.needs(":")?;
            let no = self.expression()?;
            Expression::new(at, Form::Choice(Box::new((condition, yes, no))))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.takes("||") {
            left = Expression::new(left.at, Form::Or(Box::new((left, self.and()?))))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.relation()?;
        while self.takes("&&") {
            left = Expression::new(left.at, Form::And(Box::new((left, self.relation()?))))?;
        }
        Ok(left)
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let operator = match self.token() {
                Token::Symbol("==") => Operator::Equal,
                Token::Symbol("!=") => Operator::Unequal,
                Token::Symbol("<") => Operator::Less,
                Token::Symbol("<=") => Operator::LessOrEqual,
                Token::Symbol(">") => Operator::Greater,
                Token::Symbol(">=") => Operator::GreaterOrEqual,
                Token::Name(name) if name == "in" => Operator::In,
                _ => return Ok(left),
            };
            self.next += 1;
            left = Expression::new(left.at, Form::Binary(operator, Box::new((left, self.sum()?))))?;
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        loop {
            let operator = if self.takes("+") {
                Operator::Add
            } else if self.takes("-") {
                Operator::Subtract
            } else {
                return Ok(left);
            };
            left = Expression::new(left.at, Form::Binary(operator, Box::new((left, self.product()?))))?;
        }
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let operator = if self.takes("*") {
                Operator::Multiply
            } else if self.takes("/") {
                Operator::Divide
            } else if self.takes("%") {
                Operator::Remainder
            } else {
                return Ok(left);
            };
            left = Expression::new(left.at, Form::Binary(operator, Box::new((left, self.unary()?))))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let (not, negative) = (*self.token() == Token::Symbol("!"), *self.token() == Token::Symbol("-"));
        if !not && !negative {
            return self.member();
        }
        let mut signs = 0;
        while self.takes(if not { "!" } else { "-" }) {
            signs += 1;
        }
        if let (Token::Int(number), true) = (self.token(), negative && signs % 2 == 1) {
            let number = i64::try_from(-*number).map_err(|_| self.fault("this number is too large"))?;
            self.next += 1;
            let literal = Expression::new(at, Form::Literal(Value::Int(number)))?;
            return self.members(literal);
        }
        let sign = |inner: Expression| {
            let inner = Box::new(inner);
            Expression::new(at, if not { Form::Not(inner) } else { Form::Negate(inner) })
        };
        let once = sign(self.member()?)?;
        // Two signs are none, but they ask for the type all the same.
        if signs % 2 == 0 { sign(once) } else { Ok(once) }
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members(primary)
    }

    fn members(&mut self, mut of: Expression) -> Parsed {
        loop {
            let at = of.at;
            if self.takes(".") {
                let name_at = self.at();
                let name = self.name()?;
                let form =
                    if self.takes("(") { self.method(of, &name, name_at)? } else { Form::Member(Box::new(of), name) };
                of = Expression::new(at, form)?;
            } else if self.takes("[") {
                let index = self.expression()?;
                self.needs("]")?;
                of = Expression::new(at, Form::Index(Box::new(of), Box::new(index)))?;
            } else {
                return Ok(of);
            }
        }
    }

    fn method(&mut self, of: Expression, name: &str, at: usize) -> Parsed<Form> {
        let each = match name {
            "all" => Some(Macro::All),
            "exists" => Some(Macro::Exists),
            "exists_one" | "existsOne" => Some(Macro::ExistsOne),
            "filter" => Some(Macro::Filter),
            "map" => Some(Macro::Map),
            _ => None,
        };
        if let Some(each) = each {
            return self.each(each, of);
        }
        let mut arguments = vec![of];
        arguments.extend(self.expressions(")")?);
        self.call((name, at), arguments, true)
    }

    fn each(&mut self, each: Macro, of: Expression) -> Parsed<Form> {
        let name = self.name()?;
        self.needs(",")?;
        let mut body = self.expression()?;
        let mut filter = None;
        if each == Macro::Map && self.takes(",") {
            filter = Some(std::mem::replace(&mut body, self.expression()?));
        }
        self.needs(")")?;
        Ok(Form::Each(each, Box::new(Each { of, name, filter, body })))
    }

    /// Expressions up to a closing symbol; a comma may stand before it.
    fn expressions(&mut self, close: &str) -> Parsed<Vec<Expression>> {
        let mut all = Vec::new();
        while !self.takes(close) {
            all.push(self.expression()?);
            if !self.takes(",") {
                self.needs(close)?;
                break;
            }
        }
        Ok(all)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let token = self.token();
        self.next += 1;
        let form = match token {
            Token::Int(number) => match i64::try_from(*number) {
                Ok(number) => Form::Literal(Value::Int(number)),
                Err(_) => return Err(ConditionFault { problem: "this number is too large".to_owned(), at }),
            },
            Token::Uint(number) => Form::Literal(Value::Uint(*number)),
            Token::Double(number) => Form::Literal(Value::Double(*number)),
            Token::Text(text) => Form::Literal(Value::text(text.as_str())),
            Token::Symbol("(") => {
                let inner = self.expression()?;
                self.needs(")")?;
                return Ok(inner);
            }
            Token::Symbol("[") => Form::List(self.expressions("]")?),
            Token::Symbol("{") => Form::Map(self.entries()?),
            Token::Name(name) => return self.named(name, at),
            _ => return Err(ConditionFault { problem: "a value is missing".to_owned(), at }),
        };
        Expression::new(at, form)
    }

    fn named(&mut self, name: &str, at: usize) -> Parsed {
        let form = match name {
            "true" => Form::Literal(Value::Bool(true)),
            "false" => Form::Literal(Value::Bool(false)),
            "null" => Form::Literal(Value::Null),
            "in" => return Err(ConditionFault { problem: "a value is missing".to_owned(), at }),
            _ if self.takes("(") => {
                let arguments = self.expressions(")")?;
                let has_field = name == "has" && arguments.len() == 1;
                match (has_field, arguments) {
                    (true, arguments) => match arguments.into_iter().next().map(|argument| argument.form) {
                        Some(Form::Member(of, key)) => Form::Has(of, key),
                        _ => return Err(ConditionFault { problem: "has() is about a member".to_owned(), at }),
                    },
                    (false, arguments) => self.call((name, at), arguments, false)?,
                }
            }
            _ => Form::Name(name.to_owned()),
        };
        Expression::new(at, form)
    }

    fn entries(&mut self) -> Parsed<Vec<(Expression, Expression)>> {
        let mut all = Vec::new();
        while !self.takes("}") {
            let key = self.expression()?;
            self.needs(":")?;
            all.push((key, self.expression()?));
            if !self.takes(",") {
                self.needs("}")?;
                break;
            }
        }
        Ok(all)
    }

    fn call(&mut self, (name, at): (&str, usize), mut arguments: Vec<Expression>, of_something: bool) -> Parsed<Form> {
        let fault = |problem: String| ConditionFault { problem, at };
        let function = Function::from_name(name, of_something, arguments.len())
            .ok_or_else(|| fault(format!("there is no function '{name}' of this form")))?;
        if function == Function::Matches
            && let Some(Expression { form: Form::Literal(Value::Text(text)), .. }) = arguments.get(1)
        {
            // Nothing is compiled beyond what a whole model may have.
            if self.patterns.effort >= MOST_OF_MODEL {
                return Err(fault("the patterns of this expression cost too much together".to_owned()));
            }
            let pattern = Pattern::new(text).map_err(|why| {
                // What is refused has cost something too, but never as much as a few that are taken.
                self.patterns.effort += pattern::effort(text).min(MOST_OF_MODEL / 5);
                fault(format!("what '{name}' is to look for {why}"))
            })?;
            self.patterns.effort += pattern.effort();
            self.patterns.bytes += pattern.bytes();
            arguments.truncate(1);
            if let Some(of) = arguments.pop() {
                return Ok(Form::Matches(Box::new(of), pattern));
            }
        }
        Ok(Form::Call(function, arguments))
    }
}
