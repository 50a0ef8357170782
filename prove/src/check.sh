#!/bin/sh
# Puts each question of this folder to cvc5 (named by CVC5, or found in PATH) and compares its answer with the expected one.
# unsat: no request is allowed that would break the claim, in any home. sat: there is one.
cd "$(dirname "$0")" || exit 2
cvc5=${CVC5:-cvc5}
checked=0
wrong=0
while read -r file expected; do
  answer=$("$cvc5" --lang smt "$file" 2>&1 | head -n 1)
  checked=$((checked + 1))
  if [ "$answer" != "$expected" ]; then
    wrong=$((wrong + 1))
    echo "$file: expected $expected, got $answer"
  fi
done < answers
echo "$checked checked, $wrong wrong"
[ "$wrong" -eq 0 ] && [ "$checked" -gt 0 ]
