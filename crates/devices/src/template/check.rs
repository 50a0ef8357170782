//! What a template may do with lists, decided before it ever runs.
//!
//! The engine's fuel pays for strings, loops and filters, but not for lists that are made lazily or shared: adding a
//! list to itself in a loop, or multiplying one, builds something whose size is exponential in the template's, and the
//! first comparison or concatenation walks it all. So each expression gets a [`Shape`], and a template passes only if
//! `+` and `*` never meet a list, and no list is put into another one but where it is written out. Then all that a
//! template can hold is bounded by its own text, some copies of the payload, and what fuel has paid for.

use std::collections::HashMap;

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

/// How often a template may put parts of the payload into its own lists.
const JSON_ELEMENTS_MAX: usize = 16;

/// A template that could make something without bounds, or no template at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// What a template needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Parts of the payload are added or multiplied: its JSON arrays must not be lists then.
    pub(super) without_arrays: bool,
}

/// What an expression can give at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A number, a text, nothing.
    Scalar,
    /// A part of the payload.
    Json,
    /// A list or map of the template's own that holds scalars alone.
    Flat,
    /// Any other list or map of the template's own.
    List,
}

impl Shape {
    /// What may be the one or the other.
    fn or(self, other: Shape) -> Shape {
        match (self, other) {
            (one, other) if one == other => one,
            (Shape::Scalar, one) | (one, Shape::Scalar) => one,
            _ => Shape::List,
        }
    }

    /// What it holds.
    fn element(self) -> Shape {
        if self == Shape::Flat { Shape::Scalar } else { self }
    }

    fn is_own_list(self) -> bool {
        matches!(self, Shape::Flat | Shape::List)
    }
}

/// Looks a template through.
pub(super) fn check(source: &str) -> Result<Checked, Refused> {
    let Ok(Stmt::Template(template)) = parse(source, "template", SyntaxConfig::default()) else { return Err(Refused) };
    let mut checker = Checker::default();
    // A variable set late in a loop is read early in its next round: look until nothing new is learned. Each variable
    // can grow twice.
    loop {
        let known = checker.variables.clone();
        checker.json_elements = 0;
        checker.body(&template.children)?;
        if checker.variables == known {
            return Ok(Checked { without_arrays: checker.without_arrays });
        }
    }
}

#[derive(Default)]
struct Checker<'a> {
    variables: HashMap<&'a str, Variable>,
    without_arrays: bool,
    json_elements: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Holds(Shape),
    /// `namespace()`: its attributes are parts of the payload at most.
    Namespace,
}

impl<'a> Checker<'a> {
    fn body(&mut self, statements: &[Stmt<'a>]) -> Result<(), Refused> {
        statements.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Stmt<'a>) -> Result<(), Refused> {
        match statement {
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.shape(&emit.expr).map(drop),
            Stmt::IfCond(cond) => {
                self.shape(&cond.expr)?;
                self.body(&cond.true_body)?;
                self.body(&cond.false_body)
            }
            Stmt::ForLoop(each) if !each.recursive => {
                let shape = self.shape(&each.iter)?.element();
                self.assign(&each.target, shape)?;
                if let Some(filter) = &each.filter_expr {
                    self.shape(filter)?;
                }
                self.body(&each.body)?;
                self.body(&each.else_body)
            }
            Stmt::Set(set) => {
                if let (Expr::Var(name), Expr::Call(call)) = (&set.target, &set.expr)
                    && matches!(&call.expr, Expr::Var(f) if f.id == "namespace")
                {
                    self.at_most_json(&call.args)?;
                    return match self.variables.insert(name.id, Variable::Namespace) {
                        None | Some(Variable::Namespace) => Ok(()),
                        Some(Variable::Holds(_)) => Err(Refused),
                    };
                }
                let shape = self.shape(&set.expr)?;
                self.assign(&set.target, shape)
            }
            _ => Err(Refused),
        }
    }

    fn assign(&mut self, target: &Expr<'a>, shape: Shape) -> Result<(), Refused> {
        match target {
            Expr::Var(name) => match self.variables.get(name.id) {
                Some(Variable::Namespace) => Err(Refused),
                Some(Variable::Holds(before)) => {
                    let joined = shape.or(*before);
                    self.variables.insert(name.id, Variable::Holds(joined));
                    Ok(())
                }
                None => {
                    self.variables.insert(name.id, Variable::Holds(shape));
                    Ok(())
                }
            },
            // An element of a list of the template's own may be another one.
            Expr::List(names) => names.items.iter().try_for_each(|n| self.assign(n, shape.element())),
            Expr::Tuple(names) => names.items.iter().try_for_each(|n| self.assign(n, shape.element())),
            Expr::GetAttr(attr) if !shape.is_own_list() => match &attr.expr {
                Expr::Var(name) if self.variables.get(name.id) == Some(&Variable::Namespace) => Ok(()),
                _ => Err(Refused),
            },
            _ => Err(Refused),
        }
    }

    fn shape(&mut self, expr: &Expr<'a>) -> Result<Shape, Refused> {
        match expr {
            Expr::Const(_) => Ok(Shape::Scalar),
            Expr::Var(name) => match self.variables.get(name.id) {
                Some(Variable::Holds(shape)) => Ok(*shape),
                Some(Variable::Namespace) => Err(Refused),
                None if name.id == "value_json" => Ok(Shape::Json),
                None => Ok(Shape::Scalar),
            },
            Expr::GetAttr(attr) => match &attr.expr {
                Expr::Var(name) if self.variables.get(name.id) == Some(&Variable::Namespace) => Ok(Shape::Json),
                inner => self.shape(inner).map(Shape::element),
            },
            Expr::GetItem(item) => {
                self.shape(&item.subscript_expr)?;
                self.shape(&item.expr).map(Shape::element)
            }
            Expr::Slice(slice) => {
                for end in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.shape(end)?;
                }
                self.shape(&slice.expr)
            }
            Expr::UnaryOp(op) => self.shape(&op.expr).map(|_| Shape::Scalar),
            Expr::BinOp(op) => {
                let (left, right) = (self.shape(&op.left)?, self.shape(&op.right)?);
                match op.op {
                    BinOpKind::Add | BinOpKind::Mul => match left.or(right) {
                        shape if shape.is_own_list() => Err(Refused),
                        shape => {
                            self.without_arrays |= shape == Shape::Json;
                            Ok(Shape::Scalar)
                        }
                    },
                    BinOpKind::ScAnd | BinOpKind::ScOr => Ok(left.or(right)),
                    _ => Ok(Shape::Scalar),
                }
            }
            Expr::Compare(compare) => {
                self.shape(&compare.expr)?;
                for op in &compare.ops {
                    self.shape(&op.expr)?;
                }
                Ok(Shape::Scalar)
            }
            Expr::IfExpr(cond) => {
                self.shape(&cond.test_expr)?;
                let yes = self.shape(&cond.true_expr)?;
                let no = cond.false_expr.as_ref().map_or(Ok(Shape::Scalar), |e| self.shape(e))?;
                Ok(yes.or(no))
            }
            Expr::Test(test) => {
                self.shape(&test.expr)?;
                self.arguments(&test.args).map(|_| Shape::Scalar)
            }
            Expr::Filter(filter) => {
                let input = filter.expr.as_ref().map_or(Ok(Shape::Scalar), |e| self.shape(e))?;
                let arguments = self.arguments(&filter.args)?;
                match filter.name {
                    "int"
                    | "float"
                    | "round"
                    | "abs"
                    | "length"
                    | "count"
                    | "trim"
                    | "lower"
                    | "upper"
                    | "title"
                    | "capitalize"
                    | "replace"
                    | "string"
                    | "bool"
                    | "is_number"
                    | "multiply"
                    | "add"
                    | "bitwise_and"
                    | "bitwise_or"
                    | "regex_match"
                    | "regex_search"
                    | "regex_replace"
                    | "regex_findall_index"
                    | "tojson"
                    | "to_json"
                    | "format"
                    | "join"
                    | "as_timestamp"
                    | "timestamp_utc"
                    | "timestamp_local" => Ok(Shape::Scalar),
                    "default" | "d" | "iif" | "is_defined" => Ok(input.or(arguments)),
                    "first" | "last" | "min" | "max" | "attr" => Ok(input.element()),
                    "split" | "regex_findall" => Ok(Shape::Flat),
                    "from_json" => Ok(arguments.or(Shape::Json)),
                    // The others give lists. What goes in beside the input could be put in more than once.
                    _ if arguments == Shape::Scalar => Ok(Shape::List),
                    _ => Err(Refused),
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.elements(&list.items),
            Expr::Tuple(tuple) => self.elements(&tuple.items),
            Expr::Map(map) => {
                let keys = self.elements(&map.keys)?;
                Ok(keys.or(self.elements(&map.values)?))
            }
        }
    }

    /// The elements of a list that is written out: other such lists, but none by name.
    fn elements(&mut self, elements: &[Expr<'a>]) -> Result<Shape, Refused> {
        let mut whole = Shape::Flat;
        for element in elements {
            let written_out = matches!(element, Expr::List(_) | Expr::Tuple(_) | Expr::Map(_));
            match self.shape(element)? {
                Shape::Scalar => continue,
                Shape::Flat | Shape::List if written_out => {}
                Shape::Flat | Shape::List => return Err(Refused),
                Shape::Json => {
                    self.json_elements += 1;
                    if self.json_elements > JSON_ELEMENTS_MAX {
                        return Err(Refused);
                    }
                }
            }
            whole = Shape::List;
        }
        Ok(whole)
    }

    fn call(&mut self, call: &Call<'a>) -> Result<Shape, Refused> {
        match &call.expr {
            Expr::Var(function) => match function.id {
                "range" => self.arguments(&call.args).map(|_| Shape::Flat),
                "iif" => self.arguments(&call.args),
                "float" | "int" | "is_number" | "now" | "utcnow" | "as_timestamp" | "states" | "state_attr"
                | "is_state" => self.arguments(&call.args).map(|_| Shape::Scalar),
                _ => Err(Refused),
            },
            Expr::GetAttr(method) => {
                let object = self.shape(&method.expr)?;
                let arguments = self.arguments(&call.args)?;
                match method.name {
                    "get" => Ok(object.element().or(arguments)),
                    "upper" | "lower" | "strip" | "lstrip" | "rstrip" | "replace" | "title" | "capitalize"
                    | "startswith" | "endswith" | "find" | "rfind" | "count" | "isdigit" | "isnumeric" | "isalpha"
                    | "isalnum" | "join" | "format" => Ok(Shape::Scalar),
                    "split" | "splitlines" | "keys" => Ok(Shape::Flat),
                    "items" | "values" => Ok(Shape::List),
                    _ => Err(Refused),
                }
            }
            _ => Err(Refused),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'a>]) -> Result<Shape, Refused> {
        let mut most = Shape::Scalar;
        for argument in arguments {
            most = most.or(match argument {
                CallArg::Pos(e) | CallArg::Kwarg(_, e) => self.shape(e)?,
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => return Err(Refused),
            });
        }
        Ok(most)
    }

    fn at_most_json(&mut self, arguments: &[CallArg<'a>]) -> Result<(), Refused> {
        if self.arguments(arguments)?.is_own_list() { Err(Refused) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_never_grow_without_being_written_out() {
        let passes = |s: &str| check(s).is_ok();
        for good in [
            "{{ value_json.t * 1.8 + 32 }}",
            "{{ value_json['ENERGY'].Power[0] + 1 }}",
            "{% set l = [1, [2, 3], {'a': 4}] %}{{ l[1][0] | int + 1 }}",
            "{% set ns = namespace(n=0) %}{% for x in value_json.l %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
            "{{ ['off', 'low', value_json.x][value | int(0)] }}",
            "{{ (value_json.l | default([])) | join(',') }}",
            "{{ loop.index + 1 }}",
            "{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
            "{{ value.split(',')[0] + 'x' }}",
        ] {
            assert!(passes(good), "{good}");
        }
        for bad in [
            "{{ [1] * 9 }}",
            "{{ 9 * [1] }}",
            "{{ [1] + [2] }}",
            "{% set l = [1] %}{{ l + l }}",
            "{% set l = [1] %}{% set l = [l, l] %}{{ l }}",
            "{% set l = [[1]] %}{% set m = l[0] %}{{ [m, m] }}",
            "{% set l = [1] if value else value_json %}{{ l[0] * 9 }}",
            "{% set l = {'a': [1]} %}{{ l.a + l.a }}",
            "{% for x in [[1]] %}{{ x * 9 }}{% endfor %}",
            "{% for i in [1] %}{% set x = [y, y] %}{% set y = [1] %}{% endfor %}",
            "{% set x = value %}{% if x %}{% set x = [1] %}{% endif %}{{ [x, x] }}",
            "{% set l = [[1]] | list %}{% set l = {'a': l | first} %}",
            "{% set l = [1] | zip([2]) | list %}{% set m = [1] | map('default', l) %}",
            "{% set l = range(9) %}{% set m = [1, 2] | map('default', l) | list %}",
            "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns ~ '' }}",
            "{% set ns = namespace(a=[1]) %}",
            "{% set ns = namespace() %}{% set ns.a = [1] %}",
            "{{ dict(a=[1]) }}",
            "{{ (value.split(',')) * 9 }}",
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "{{ value_json.items() | sum(start=[1] * 9) }}",
            &format!("{{{{ [{}] }}}}", "value_json,".repeat(17)),
            "{{ unclosed",
        ] {
            assert_eq!(check(bad), Err(Refused), "{bad}");
        }
        assert!(check("{{ value_json.t * 2 }}").unwrap().without_arrays);
        assert!(!check("{{ value_json.t | float * 2 }}").unwrap().without_arrays);
    }
}
