#include "verifier/sandbox/cxx_function.h"

#include <regex>

namespace tramontane {
namespace {

// Before the answer's text, so that no macro of it changes anything here.
const char kHead[] = R"cxx(#include <bits/stdc++.h>
#include <unistd.h>
namespace tramontane_call {
struct Json {
  char kind = 'n';  // null, b(ool), 0 (number), s(tring), a(rray), o(bject)
  std::string text;
  std::vector<Json> items;
  std::vector<std::string> keys;
};
[[noreturn]] inline void Refuse(const char* why) {
  std::fprintf(stderr, "%s\n", why);
  std::_Exit(1);
}
struct Reader {
  std::string in;
  std::size_t at = 0;
  char Peek() {
    while (at < in.size() && std::strchr(" \t\r\n", in[at])) ++at;
    return at < in.size() ? in[at] : '\0';
  }
  void Unicode(std::string& out) {
    unsigned c = std::stoul(in.substr(at, 4), nullptr, 16);
    at += 4;
    if (c >= 0xD800 && c < 0xDC00 && in.compare(at, 2, "\\u") == 0) {
      c = 0x10000 + ((c - 0xD800) << 10) + (std::stoul(in.substr(at + 2, 4), nullptr, 16) - 0xDC00);
      at += 6;
    }
    if (c < 0x80) return void(out += char(c));
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out += char((more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0) | c >> 6 * more);
    for (int i = more - 1; i >= 0; --i) out += char(0x80 | (c >> 6 * i & 0x3F));
  }
  std::string Text() {
    std::string out;
    for (++at; in.at(at) != '"';) {
      if (in[at] != '\\') { out += in[at++]; continue; }
      const char c = in.at(at + 1);
      at += 2;
      if (c == 'u') Unicode(out);
      else out += c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c == 'b' ? '\b' : c == 'f' ? '\f' : c;
    }
    ++at;
    return out;
  }
  Json Value() {
    Json json;
    const char c = Peek();
    if (c == '"') { json.kind = 's'; json.text = Text(); return json; }
    if (c == '[' || c == '{') {
      json.kind = c == '[' ? 'a' : 'o';
      for (++at; Peek() != ']' && Peek() != '}';) {
        if (json.kind == 'o') { json.keys.push_back(Text()); Peek(); ++at; }
        json.items.push_back(Value());
        if (Peek() == ',') { ++at; Peek(); }
      }
      ++at;
      return json;
    }
    while (at < in.size() && !std::strchr(",]} \t\r\n", in[at])) json.text += in[at++];
    json.kind = json.text == "null" ? 'n' : json.text == "true" || json.text == "false" ? 'b' : '0';
    return json;
  }
};
inline void Want(bool right) { if (!right) Refuse("the function takes other arguments"); }

template <class T> requires std::is_arithmetic_v<T>
void Read(const Json& json, T& out) {
  if constexpr (std::is_same_v<T, bool>) { Want(json.kind == 'b'); out = json.text == "true"; }
  else if constexpr (std::is_same_v<T, char>) { Want(json.kind == 's' && json.text.size() == 1); out = json.text[0]; }
  else if constexpr (std::is_floating_point_v<T>) { Want(json.kind == '0'); out = T(std::stold(json.text)); }
  else if (Want(json.kind == '0'); json.text.find_first_of(".eE") != std::string::npos) out = T(std::stold(json.text));
  else if constexpr (std::is_unsigned_v<T>) out = T(std::stoull(json.text));
  else out = T(std::stoll(json.text));
}
inline void Read(const Json& json, std::string& out) { Want(json.kind == 's'); out = json.text; }
template <class T> void Read(const Json&, std::vector<T>&);
template <class T, std::size_t N> void Read(const Json&, std::array<T, N>&);
template <class A, class B> void Read(const Json&, std::pair<A, B>&);
template <class... T> void Read(const Json&, std::tuple<T...>&);
template <class T> void Read(const Json&, std::optional<T>&);
template <class C> concept Map = requires { typename C::mapped_type; };
template <class C> concept Set = requires { typename C::key_type; } && !Map<C>;
template <Map C> void Read(const Json&, C&);
template <Set C> void Read(const Json&, C&);
template <class T> T As(const Json& json) { T out{}; Read(json, out); return out; }
template <class T> void Read(const Json& json, std::vector<T>& out) {
  Want(json.kind == 'a');
  for (const Json& item : json.items) out.push_back(As<T>(item));
}
template <class T, std::size_t N> void Read(const Json& json, std::array<T, N>& out) {
  Want(json.kind == 'a' && json.items.size() == N);
  for (std::size_t i = 0; i < N; ++i) Read(json.items[i], out[i]);
}
template <class A, class B> void Read(const Json& json, std::pair<A, B>& out) {
  Want(json.kind == 'a' && json.items.size() == 2);
  out = {As<A>(json.items[0]), As<B>(json.items[1])};
}
template <class... T> void Read(const Json& json, std::tuple<T...>& out) {
  Want(json.kind == 'a' && json.items.size() == sizeof...(T));
  std::size_t i = 0;
  std::apply([&](auto&... parts) { (Read(json.items[i++], parts), ...); }, out);
}
template <class T> void Read(const Json& json, std::optional<T>& out) {
  if (json.kind != 'n') out = As<T>(json);
}
template <Map C> void Read(const Json& json, C& out) {
  Want(json.kind == 'o');
  for (std::size_t i = 0; i < json.items.size(); ++i) out.emplace(json.keys[i], As<typename C::mapped_type>(json.items[i]));
}
template <Set C> void Read(const Json& json, C& out) {
  Want(json.kind == 'a');
  for (const Json& item : json.items) out.insert(As<typename C::key_type>(item));
}

inline void Write(std::string& to, const std::string& text) {
  to += '"';
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') { to += '\\'; to += char(c); continue; }
    if (c >= 0x20) { to += char(c); continue; }
    char code[8];
    std::snprintf(code, sizeof code, "\\u%04x", c);
    to += code;
  }
  to += '"';
}
inline void Write(std::string& to, const char* text) { Write(to, std::string(text)); }
template <class T> requires std::is_arithmetic_v<T>
void Write(std::string& to, T value) {
  if constexpr (std::is_same_v<T, bool>) to += value ? "true" : "false";
  else if constexpr (std::is_same_v<T, char>) Write(to, std::string(1, value));
  else if constexpr (std::is_integral_v<T>) to += std::to_string(value);
  else {
    char digits[64];
    std::snprintf(digits, sizeof digits, "%.17g", double(value));
    to += digits;
  }
}
template <class A, class B> void Write(std::string&, const std::pair<A, B>&);
template <class... T> void Write(std::string&, const std::tuple<T...>&);
template <class T> void Write(std::string&, const std::optional<T>&);
template <class C> concept Range = requires(const C& c) { c.begin(); c.end(); } && !std::is_same_v<C, std::string>;
template <Range C> void Write(std::string& to, const C& values) {
  to += Map<C> ? '{' : '[';
  bool first = true;
  for (const auto& value : values) {
    if (!std::exchange(first, false)) to += ',';
    if constexpr (Map<C>) {
      if constexpr (std::is_same_v<typename C::key_type, std::string>) Write(to, value.first);
      else { std::string key; Write(key, value.first); Write(to, key); }
      to += ':';
      Write(to, value.second);
    } else {
      Write(to, static_cast<const typename C::value_type&>(value));
    }
  }
  to += Map<C> ? '}' : ']';
}
template <class A, class B> void Write(std::string& to, const std::pair<A, B>& value) {
  to += '['; Write(to, value.first); to += ','; Write(to, value.second); to += ']';
}
template <class... T> void Write(std::string& to, const std::tuple<T...>& value) {
  to += '[';
  bool first = true;
  std::apply([&](const auto&... parts) { ((std::exchange(first, false) ? void() : void(to += ','), Write(to, parts)), ...); }, value);
  to += ']';
}
template <class T> void Write(std::string& to, const std::optional<T>& value) {
  if (value) Write(to, *value); else to += "null";
}

template <class R, class... A, class F> std::string Call(F&& call) {
  Reader reader{std::string(std::istreambuf_iterator<char>(std::cin), {})};
  std::tuple<std::decay_t<A>...> arguments;
  Read(reader.Value(), arguments);
  std::string result;
  if constexpr (std::is_void_v<R>) {
    std::apply([&](auto&... parts) { call(static_cast<A&&>(parts)...); }, arguments);
    result = "null";
  } else {
    Write(result, std::apply([&](auto&... parts) -> std::decay_t<R> { return call(static_cast<A&&>(parts)...); }, arguments));
  }
  return result;
}
template <class R, class... A> std::string Run(R (*function)(A...)) { return Call<R, A...>(function); }
template <class S, class R, class... A> std::string Run(R (S::*method)(A...)) {
  S solution;
  return Call<R, A...>([&](A... parts) -> R { return (solution.*method)(static_cast<A&&>(parts)...); });
}
template <class S, class R, class... A> std::string Run(R (S::*method)(A...) const) {
  S solution;
  return Call<R, A...>([&](A... parts) -> R { return (solution.*method)(static_cast<A&&>(parts)...); });
}
template <class F> int Main(F function) {
  const int out = dup(1);
  dup2(2, 1);
  const std::string result = Run(function);
  std::cout.flush();
  std::fflush(stdout);
  for (std::size_t at = 0; at < result.size();) {
    const ssize_t some = write(out, result.data() + at, result.size() - at);
    if (some <= 0) return 1;
    at += some;
  }
  return 0;
}
}  // namespace tramontane_call
using namespace std;
#define main answers_own_main
#line 1 "program.cc"
)cxx";

}  // namespace

absl::StatusOr<std::string> CxxFunctionProgram(const std::string& source,
                                               const std::string& function) {
  static const std::regex name("[A-Za-z_][A-Za-z0-9_]*"),
      solution(R"(\b(class|struct)\s+Solution\b)");
  if (!std::regex_match(function, name)) {
    return absl::InvalidArgumentError("'" + function + "' is no name of a C++ function");
  }
  const bool method = std::regex_search(source, solution) && function != "Solution";
  return kHead + source + "\n#undef main\n#undef int\nint main() { return tramontane_call::Main(&" +
         (method ? "Solution::" : "::") + function + "); }\n";
}

}  // namespace tramontane
