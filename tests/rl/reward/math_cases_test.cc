// SPDX-License-Identifier: Apache-2.0
// What the reward `math` takes for equal and what it does not. To accept a wrong answer is worse than to reject a right
// one: a policy learns to produce whatever is accepted. So every rule has near misses, and both tables count.
#include <string>

#include "gtest/gtest.h"

#include "core/base/quoted.h"
#include "core/base/rng.h"
#include "rl/reward/answer_rewards.h"

namespace conclave::rl {
namespace {

struct Case {
  const char* expected;
  const char* answer;
};

void PrintTo(const Case& pair, std::ostream* out) {
  *out << "expected " << core::Quoted(pair.expected) << ", answer " << core::Quoted(pair.answer);
}

class EqualMath : public testing::TestWithParam<Case> {};
class DifferentMath : public testing::TestWithParam<Case> {};

TEST_P(EqualMath, IsAccepted) {
  const Score score = CompareMathAnswer(GetParam().expected, GetParam().answer);
  EXPECT_EQ(score.value, 1) << Name(score.outcome) << ": " << score.reason;
  EXPECT_EQ(score.outcome, Outcome::kRight);
}

TEST_P(DifferentMath, IsRejected) {
  const Score score = CompareMathAnswer(GetParam().expected, GetParam().answer);
  EXPECT_EQ(score.value, 0);
  EXPECT_NE(score.outcome, Outcome::kRight);
  EXPECT_NE(score.outcome, Outcome::kUnparsedGold) << score.reason;
}

#define CASES(suite, name, ...) INSTANTIATE_TEST_SUITE_P(name, suite, testing::ValuesIn(std::vector<Case>(__VA_ARGS__)))

CASES(EqualMath, Numbers,
      {{"5", "5"},
       {"5", "5.0"},
       {"5", "+5"},
       {"5", "05"},
       {"-50", "-50"},
       {"-50",
        "\xe2\x88\x92"
        "50"},
       {"0.15", ".15"},
       {".0000672", "0.0000672"},
       {"0.15", "3/20"},
       {"1.25", "\\frac{5}{4}"},
       {"5", "5."},
       {"5", "$5$"},
       {"5", "\\(5\\)"},
       {"5", "\\boxed{5}"},
       {"5", " 5 "},
       {"5", "(5)"},
       {"5", "{5}"},
       {"6.72 \\times 10^{-5}", "0.0000672"},
       {"1000000000000000000000000000001", "1000000000000000000000000000001"},
       {"2^{100}", "1267650600228229401496703205376"},
       {"0.1", "0.10"},
       {"10!", "3628800"},
       {"\\binom{5}{2}", "10"},
       {"2^{-1}", "0.5"},
       {"3^2", "9"},
       {"3**2", "9"}});
CASES(DifferentMath, Numbers,
      {{"5", "-5"},
       {"5", "50"},
       {"5", "0.5"},
       {"5", "5.0000001"},
       {"5", "4.9999999999999999999"},
       {"1/3", "0.3333333333"},
       {"0.15", "0.2"},
       {"5", "5 5"},
       {"5", "5, 5"},
       {"12", "1 2"},
       {"5", ""},
       {"5", "$"},
       {"1000000000000000000000000000001", "1000000000000000000000000000002"},
       {"10", "1e1x"},
       {"2^{100}", "1.2676506e30"},
       {"9", "9^9^9^9"},
       {"0", "1/0"},
       {"1", "0/0"},
       {"0", "0^{-1}"},
       {"3.14", "3,14"},
       {"5", "five"},
       {"5", "not 5"},
       {"5", "5 or 6"},
       {"5", "5?"},
       {"5", "x"},
       {"1", "i"},
       {"6", "3!!"},
       {"262537412640768744", "e^{\\pi\\sqrt{163}}"}});

CASES(EqualMath, Fractions,
      {{"\\frac{14}{3}", "14/3"},
       {"\\frac{14}{3}", "\\dfrac{14}{3}"},
       {"\\frac43", "\\tfrac{4}{3}"},
       {"\\frac 59", "\\frac{5}{9}"},
       {"\\frac9{19}", "9/19"},
       {"\\frac{270}7", "270/7"},
       {"\\frac{1}{2}", "\\frac{2}{4}"},
       {"-\\frac{3}{8}", "\\frac{-3}{8}"},
       {"-\\frac{3}{8}", "\\frac{3}{-8}"},
       {"1\\frac{4}{5}", "\\frac{9}{5}"},
       {"137 \\frac{1}{2}", "137.5"},
       {"1 4/5", "9/5"},
       {"-1\\frac{4}{5}", "-9/5"},
       {"\\frac{\\frac12}{3}", "1/6"},
       {"\\frac{1,000}{3}", "1000/3"},
       {"1\\frac12", "1.5"}});
CASES(DifferentMath, Fractions,
      {{"\\frac{14}{3}", "\\frac{3}{14}"},
       {"\\frac{14}{3}", "14"},
       {"\\frac{1}{2}", "1/2/2"},
       {"1\\frac{4}{5}", "\\frac{4}{5}"},
       {"1\\frac{4}{5}", "14/5"},
       {"7/2", "2\\frac{3}{2}"},
       {"3", "2\\frac{3}{2}"},
       {"-1\\frac{4}{5}", "-1/5"},
       {"\\frac{2}{3}", "\\frac{4}{5}"},
       {"\\frac{1}{2}", "\\frac{1}{2"},
       {"\\frac{1}{2}", "\\frac{1}"},
       {"\\frac{1}{23}", "\\frac123"},
       {"3/4", "3:4"}});

CASES(EqualMath, Thousands,
      {{"1000", "1,000"},
       {"10,\\!080", "10080"},
       {"11,\\! 111,\\! 111,\\! 100", "11111111100"},
       {"58,500", "58500"},
       {"1,000", "1{,}000"},
       {"1000.5", "1,000.5"},
       {"1,234,567", "1234567"},
       {"1000", "1\\,000"},
       {"100, 200, 300", "100,200,300"},
       {"1,2", "2,1"}});
CASES(DifferentMath, Thousands,
      {{"1,000", "1"},
       {"1,000", "1, 0"},
       {"1,000", "\\{1, 0\\}"},
       {"1,000", "0, 1"},
       {"1, 0", "1,000"},
       {"1000", "1,00"},
       {"1000", "1,0000"},
       {"1000", "10,00"},
       {"100,200", "200,100"},
       {"1000", "1.000"}});

CASES(EqualMath, PercentAndUnits,
      {{"50\\%", "50\\%"},
       {"50\\%", "50%"},
       {"50\\%", "0.5"},
       {"50\\%", "\\frac12"},
       {"50\\%", "50"},
       {"0.5", "50\\%"},
       {"50\\%", "50 percent"},
       {"\\$36", "36"},
       {"36", "\\$36"},
       {"\\$32,\\!348", "\\$32348"},
       {"\\$18.90", "18.90"},
       {"18.90", "$18.90"},
       {"15\\mbox{ cm}^2", "15"},
       {"15", "15 \\text{ cm}^2"},
       {"15\\mbox{ cm}^2", "15 \\text{ cm}^2"},
       {"864 \\mbox{ inches}^2", "864 \\text{ square inches}"},
       {"5.4 \\text{ cents}", "5.4"},
       {"5.4 \\text{ cents}", "5.4 cents"},
       {"90^\\circ", "90"},
       {"90", "90^\\circ"},
       {"90^{\\circ}", "90\xc2\xb0"},
       {"90^\\circ", "90 degrees"},
       {"-90^\\circ", "-90"},
       {"\\frac{270}7\\text{ degrees}", "270/7"},
       {"60", "60 mph"},
       {"60 \\text{ mph}", "60 \\text{ miles per hour}"},
       {"5", "5 cm"},
       {"5", "5 apples"},
       {"\\text{5 cm}", "5"},
       {"3000000", "3 million"},
       {"36 dollars", "\\$36"},
       {"12 \\text{ units}", "12"},
       {"12 \\text{ square units}", "12"}});
CASES(DifferentMath, PercentAndUnits,
      {{"15\\mbox{ cm}^2", "15\\mbox{ cm}^2}"},
       {"5", "5 eighths"},
       {"5", "5 factorial"},
       {"5", "5 millions"},
       {"50", "0.5"},
       {"0.5", "50"},
       {"50", "50\\%"},
       {"50\\%", "5"},
       {"50\\%", "0.5\\%"},
       {"5", "5 million"},
       {"5.4 \\text{ cents}", "5.4 \\text{ dollars}"},
       {"15\\mbox{ cm}^2", "15 \\text{ cm}"},
       {"15\\mbox{ cm}^2", "15 \\text{ m}^2"},
       {"5", "5 hundredths of 6"},
       {"5", "5 or so"},
       {"5", "5 \\text{ is wrong}"},
       {"5", "5 \\text{ not six}"},
       {"5", "5 dozen"},
       {"5", "5 halves"},
       {"\\$36", "36 cents"},
       {"90^\\circ", "90\\%"},
       {"90", "90x"},
       {"5", "5m"},
       {"5 m", "5"},
       {"12 km", "12 miles"}});

CASES(EqualMath, Lists,
      {{"1,-2", "-2,1"},
       {"3, 5, 7", "\\{3,5,7\\}"},
       {"3, 5, 7", "3, 5, \\text{ and } 7"},
       {"1,-2", "1 and -2"},
       {"1,-2", "x = 1, x = -2"},
       {"1,-2", "x=1 \\text{ or } x=-2"},
       {"\\{1\\pm\\sqrt{5},-2\\}", "-2, 1+\\sqrt5, 1-\\sqrt5"},
       {"1 \\pm \\sqrt{19}", "1 - \\sqrt{19}, 1 + \\sqrt{19}"},
       {"3 \\pm 2 \\sqrt{2}", "3 \\mp 2\\sqrt 2"},
       {"\\{5\\}", "5"},
       {"-2,1", "\\{1, -2\\}"},
       {"x=1, x=-2", "-2, 1"},
       {"1;2", "1,2"},
       {"x = 1 \\pm \\sqrt{2}", "1+\\sqrt2, 1-\\sqrt2"}});
CASES(DifferentMath, Lists,
      {{"1,-2", "1"},
       {"1,-2", "1,2"},
       {"1,-2", "1,-2,3"},
       {"1", "1,-2"},
       {"1,-2", "(1,-2)"},
       {"1,-2", "[1,-2]"},
       {"3, 5, 7", "3, 5, 5"},
       {"3,5", "3,5,5"},
       {"1 \\pm \\sqrt{19}", "1 + \\sqrt{19}"},
       {"1 \\pm \\sqrt{19}", "1 \\pm \\sqrt{18}"},
       {"1,2", "a = 1, b = 2"},
       {"a = 1, b = 2", "a = 2, b = 1"},
       {"1,2", "1,,"},
       {"1,2", "1,,2"},
       {"1,2", "1,2,"}});

CASES(EqualMath, TuplesAndIntervals,
      {{"(3,4]", "(3,4]"},
       {"(3,4]", "\\left( 3, 4 \\right]"},
       {"\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)"},
       {"(2,\\infty)", "(2, +\\infty)"},
       {"(2,\\infty)", "x > 2"},
       {"x > 2", "(2,\\infty)"},
       {"x \\in [-2,7]", "[-2,7]"},
       {"[-2,7]", "-2 \\le x \\le 7"},
       {"(-\\infty, 0]", "x \\leq 0"},
       {"(0,9) \\cup (9,36)", "(9,36) \\cup (0,9)"},
       {"(2,12) \\cup (12,102)", "(2,12)\\cup(12,102)"},
       {"(1,-16,-4,43)", "(1, -16, -4, 43)"},
       {"\\left(\\frac{3}{5},\\frac{8}{3}\\right]", "(0.6, \\frac83]"},
       {"x > 3", "3 < x"},
       {"(-\\sqrt{3}, \\sqrt{3})", "(-\\sqrt3,\\sqrt3)"},
       {"(x,y) = (1,2)", "(1,2)"},
       {"\\emptyset", "\\{\\}"},
       {"\\emptyset", "\xe2\x88\x85"},
       {"x+y > 3", "3 < y+x"}});
CASES(DifferentMath, TuplesAndIntervals,
      {{"(3,4]", "(3,4)"},
       {"(3,4]", "[3,4]"},
       {"(3,4]", "[3,4)"},
       {"(3,4]", "(4,3]"},
       {"(3,4)", "3,4"},
       {"(3,4)", "\\{3,4\\}"},
       {"(2,\\infty)", "x \\ge 2"},
       {"(2,\\infty)", "(2,-\\infty)"},
       {"(2,\\infty)", "x < 2"},
       {"(-1,6)", "(6,-1)"},
       {"(8,-2)", "(8,-2,0)"},
       {"(8,-2)", "8-2"},
       {"x \\in [-2,7]", "x \\in (-2,7)"},
       {"(0,9) \\cup (9,36)", "(0,36)"},
       {"(0,9) \\cup (9,36)", "(0,9) \\cap (9,36)"},
       {"(0,9) \\cup (9,36)", "(0,9), (9,36)"},
       {"x > 3", "y > 3"},
       {"x > 3", "x = 3"},
       {"x > 3", "3"},
       {"x+y > 3", "x+y \\ge 3"},
       {"x+y > 3", "x+y < 3"},
       {"2 < x < 5", "2 < x"},
       {"\\infty", "-\\infty"},
       {"5", "\\infty"},
       {"(2,12) \\cup (12,102)", "(2,12) \\cup (12102)"},
       {"(3,4)", "(3,4"},
       {"\\emptyset", "0"},
       {"3:2", "3/2"},
       {"3:2", "2:3"}});

CASES(EqualMath, Matrices,
      {{"\\begin{pmatrix} -1/3 \\\\ 2/3 \\end{pmatrix}", "\\begin{bmatrix} -\\frac13 \\\\ \\frac23 \\end{bmatrix}"},
       {"\\begin{pmatrix} -1 & 0 \\\\ 0 & -1 \\end{pmatrix}", "\\begin{pmatrix}-1&0\\\\0&-1\\\\\\end{pmatrix}"}});
CASES(DifferentMath, Matrices,
      {{"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 2 \\\\ 1 \\end{pmatrix}"},
       {"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2 \\end{pmatrix}"},
       {"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "1, 2"},
       {"\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "(1,2)"},
       {"\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}", "1"},
       {"\\begin{pmatrix} 1 & 0 \\\\ 0 & 1 \\end{pmatrix}", "\\begin{vmatrix} 1 & 0 \\\\ 0 & 1 \\end{vmatrix}"}});

CASES(EqualMath, Algebra,
      {{"x^2+2x+1", "(x+1)^2"},
       {"(a+5)(b+2)", "ab+2a+5b+10"},
       {"p - q", "-q+p"},
       {"x^3+3x-6", "3x + x^3 - 6"},
       {"2k+2", "2(k+1)"},
       {"\\frac{11+9a}{20}", "\\frac{9a}{20}+\\frac{11}{20}"},
       {"6r^2-4r-24", "2(3r^2-2r-12)"},
       {"3R^2", "3 R^2"},
       {"5r^5", "5 \\cdot r^5"},
       {"abc", "a b c"},
       {"\\frac{x^2-1}{x-1}", "x+1"},
       {"x^{10}", "x^10"},
       {"xy", "y*x"},
       {"x_1 + x_2", "x_{2}+x_{1}"},
       {"2^{n+1}", "2 \\cdot 2^n"},
       {"\\frac{1}{x}", "x^{-1}"},
       {"(x-y)^3", "x^3-3x^2y+3xy^2-y^3"},
       {"\\theta^2", "\xce\xb8\xc2\xb2"},
       {"x^{100}", "x^{50} x^{50}"}});
CASES(DifferentMath, Algebra,
      {{"x^2+2x+1", "x^2+2x-1"},
       {"x^2+2x+1", "(x-1)^2"},
       {"p - q", "q - p"},
       {"x", "y"},
       {"x", "X"},
       {"2k", "k^2"},
       {"3R^2", "3r^2"},
       {"3R^2", "(3R)^2"},
       {"2k+2", "2k"},
       {"x^2", "x^{2n}"},
       {"xy", "x+y"},
       {"x_1", "x_2"},
       {"x^{10}", "x^{11}"},
       {"x+1", "1"},
       {"2^n", "n^2"},
       {"\\frac{1}{x}", "x"},
       {"x", "|x|"},
       {"x", "\\sqrt{x^2}"},
       {"x^{100}", "x^{99}"},
       {"x", "x x"},
       {"x", "\\frac{x^2}{0}"},
       {"2(x+1)", "2x+1"}});

CASES(EqualMath, ClosedForms,
      {{"3\\sqrt{13}", "\\sqrt{117}"},
       {"11\\sqrt2", "11 \\sqrt{2}"},
       {"\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}"},
       {"\\sqrt{51}", "51^{1/2}"},
       {"\\frac{3\\sqrt{3}}{4}", "0.75\\sqrt{3}"},
       {"18+2\\pi", "2(9+\\pi)"},
       {"288 \\pi", "288\xcf\x80"},
       {"11 \\sqrt{5} + 11", "11(1+\\sqrt5)"},
       {"\\sqrt{4}", "2"},
       {"\\frac{20000}{\\pi}", "20000/\\pi"},
       {"6 - 5i", "-5i+6"},
       {"(1+2i)^2", "-3+4i"},
       {"\\cot x", "\\frac{\\cos x}{\\sin x}"},
       {"\\cot x", "\\frac{1}{\\tan x}"},
       {"1", "\\sin^2 x + \\cos^2 x"},
       {"\\sin 2x", "2 \\sin x \\cos x"},
       {"\\frac12", "\\sin 30^\\circ"},
       {"\\frac{1}{2}", "\\cos \\frac{\\pi}{3}"},
       {"\\log_2 8", "3"},
       {"\\ln 2", "-\\ln \\frac12"},
       {"e^2", "e \\cdot e"},
       {"\\sqrt{2+\\sqrt{3}}", "\\frac{\\sqrt6+\\sqrt2}{2}"},
       {"\\sqrt[3]{8}", "2"},
       {"-2", "\\sqrt[3]{-8}"},
       {"\\sqrt[3]{2}", "2^{1/3}"},
       {"\\frac{\\sqrt{21}}{5}", "\\sqrt{\\frac{21}{25}}"},
       {"|-5|", "5"},
       {"\\lfloor 3.7 \\rfloor", "3"},
       {"\\sqrt{x^2+2x+1}", "\\sqrt{(x+1)^2}"},
       {"sqrt(2)", "\\sqrt{2}"},
       {"pi/2", "\\frac{\\pi}{2}"},
       {"\\frac{\\pi}{2}", "\xcf\x80/2"}});
CASES(DifferentMath, ClosedForms,
      {{"3\\sqrt{13}", "3\\sqrt{12}"},
       {"3\\sqrt{13}", "10.8166538264"},
       {"\\sqrt{2}", "1.4142135623730950488"},
       {"\\pi", "3.14159265358979"},
       {"\\pi", "22/7"},
       {"6 - 5i", "6 + 5i"},
       {"6 - 5i", "6 - 5"},
       {"\\cot x", "\\tan x"},
       {"\\cot x", "\\cot y"},
       {"\\sin 2x", "2 \\sin x"},
       {"\\frac12", "\\sin 30"},
       {"\\log 8", "\\ln 8"},
       {"e^2", "7.389"},
       {"\\sqrt[3]{8}", "\\sqrt{8}"},
       {"\\sqrt{2}", "-\\sqrt{2}"},
       {"3", "\\sqrt13"},
       {"2", "\\pm 2"},
       {"\\sqrt{x}\\sqrt{y}", "\\sqrt{x}"},
       {"18+2\\pi", "20\\pi"},
       {"\\sqrt{-4}", "2"},
       {"\\ln 0", "0"},
       {"1", "\\sin^{-1} x"}});

CASES(EqualMath, Equations,
      {{"x=5", "5"},
       {"5", "x=5"},
       {"5", "x = 10/2 = 5"},
       {"y = 2x + 3", "2x+3"},
       {"y = 2x + 3", "y - 2x = 3"},
       {"y = 2x + 3", "2y = 4x + 6"},
       {"5x - 7y + 11z + 4 = 0", "-5x + 7y - 11z = 4"},
       {"y = -2x", "x = -\\frac{y}{2}"},
       {"2x+1", "f(x) = 2x+1"},
       {"5", "\\text{Area} = 5"},
       {"x^2+y^2=1", "1 - y^2 = x^2"}});
CASES(DifferentMath, Equations,
      {{"x=5", "y=5"},
       {"x=5", "x=6"},
       {"5", "2+3=5"},
       {"5", "5=5"},
       {"x = 5", "5 = 5"},
       {"5", "x = 3 = 5"},
       {"5", "x = 5 = 6"},
       {"5x - 7y + 11z + 4 = 0", "5x - 7y + 11z + 4"},
       {"5x - 7y + 11z + 4 = 0", "5x - 7y + 11z = 4"},
       {"y = 2x + 3", "y = 2x - 3"},
       {"y = 2x + 3", "x = 2y + 3"},
       {"y = 2x + 3", "0 = 0"},
       {"5", "x \\ne 5"},
       {"5", "x > 5"},
       {"x = 5", "x \\ne 5"},
       {"x = 5", "5x = 5"}});

CASES(EqualMath, Words,
      {{"\\text{Evelyn}", "Evelyn"},
       {"\\text{Evelyn}", "evelyn"},
       {"\\text{(C)}", "C"},
       {"\\text{(C)}", "(C)"},
       {"\\text{(C)}", "\\text{C}"},
       {"\\text{(C)}", "\\textbf{(C)}"},
       {"C", "\\text{C}"},
       {"C", "(C)"},
       {"\\text{even}", "\\textbf{even}"},
       {"\\text{no solution}", "no solution"},
       {"\\text{east}", "\\mathrm{East}"},
       {"52_8", "52_{8}"},
       {"4210_{5}", "4210_5"},
       {"\\text{ellipse}", "$\\text{ellipse}$"}});
CASES(DifferentMath, Words,
      {{"\\text{Evelyn}", "Evelin"},
       {"\\text{(C)}", "D"},
       {"\\text{(C)}", "(B)"},
       {"\\text{(C)}", "(C), (D)"},
       {"C", "c"},
       {"\\text{even}", "odd"},
       {"\\text{even}", "not even"},
       {"52_8", "52"},
       {"52_8", "42"},
       {"52_8", "52_9"},
       {"52", "52_8"},
       {"\\text{even}", "even or odd"},
       {"\\text{even}", "2"},
       {"\\text{(C)}", "C 5"}});

TEST(MathReward, IsNotSymmetricWhereTheExpectedFormCounts) {
  EXPECT_EQ(CompareMathAnswer("50\\%", "50").value, 1);
  EXPECT_EQ(CompareMathAnswer("50", "50\\%").value, 0);
  EXPECT_EQ(CompareMathAnswer("100, 200", "100,200").value, 1);
  EXPECT_EQ(CompareMathAnswer("100,200", "100, 200").value, 0);
}

TEST(MathReward, SurvivesWhateverIsWritten) {
  const std::string_view pieces[] = {"\\frac",
                                     "\\sqrt",
                                     "{",
                                     "}",
                                     "(",
                                     ")",
                                     "[",
                                     "]",
                                     "\\{",
                                     "\\}",
                                     "|",
                                     ",",
                                     "1",
                                     "23",
                                     "x",
                                     "\\pi",
                                     "^",
                                     "_",
                                     "!",
                                     "\\%",
                                     "=",
                                     "<",
                                     "+",
                                     "-",
                                     "\\pm",
                                     "/",
                                     "\\text{ cm}",
                                     "\\sin",
                                     "\\begin{pmatrix}",
                                     "\\end{pmatrix}",
                                     "&",
                                     "\\\\",
                                     "\\cup",
                                     "\\infty",
                                     "and",
                                     " ",
                                     "\\log",
                                     "\\alpha",
                                     "\\text{a}",
                                     "^\\circ",
                                     "\\text{",
                                     "\xff",
                                     "\xe2\x88\x9a",
                                     ":",
                                     "\\binom"};
  int64_t num_parsed = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    std::string texts[2];
    for (uint64_t j = 0; j < (i % 2 ? 5 : 40); ++j) {
      const uint32_t word = core::Philox(7, i, j)[0];
      texts[j % 2] += pieces[word % std::size(pieces)];
    }
    const Score score = CompareMathAnswer(texts[0], texts[1]);
    EXPECT_EQ(score.value, score.outcome == Outcome::kRight ? 1 : 0);
    num_parsed += score.outcome != Outcome::kUnparsedGold;
    if (!CheckGold(texts[0]).ok()) continue;
    EXPECT_EQ(CompareMathAnswer(texts[0], texts[0]).value, 1) << texts[0];
  }
  EXPECT_GT(num_parsed, 100);  // else nothing was compared
}

TEST(MathReward, SaysWhyAnAnswerWasNotCompared) {
  EXPECT_EQ(CompareMathAnswer("5", "\\frac{1}{").outcome, Outcome::kUnparsedAnswer);
  EXPECT_EQ(CompareMathAnswer("\\frac{1}{", "5").outcome, Outcome::kUnparsedGold);
  EXPECT_EQ(CompareMathAnswer("5", "9^9^9").outcome, Outcome::kBudgetSpent);
  EXPECT_EQ(CompareMathAnswer("5", std::string(5000, '1')).outcome, Outcome::kBudgetSpent);
  EXPECT_EQ(CompareMathAnswer("5", std::string(400, '(') + "5" + std::string(400, ')')).outcome, Outcome::kBudgetSpent);
}

}  // namespace
}  // namespace conclave::rl
