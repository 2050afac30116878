// Configuration: a struct lists each of its fields once, and that list makes the file key, the flag, the help
// text, the reference page and the copy kept in every checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "src/core/error.hpp"

namespace slipway {

/// Whether the key may change on resume.
enum class ResumePolicy {
  kImmutable,  ///< refused: it would change the results of the run
  kLayout,     ///< allowed: device, mesh, threads; the effect on bits is stated in docs/numerics.md
  kRunLength,  ///< allowed: how long the run is
  kPath,       ///< allowed: a path, in a file relative to that file; hashes check that the content is the same
  kReporting,  ///< allowed: output, display and measurements
};

/// Which help shows an option: by default the short help has options without a section, and `--help all` has the rest.
enum class HelpVisibility {
  kAuto,
  kFirst,  ///< in the short help too: the most used keys
  kAll,    ///< only in `--help all`
  kNever,  ///< a key that has one legal value so far
};

/// What the help says about a field: `{"steps between saves", "STEPS"}`. Without a placeholder the type has one: N for
/// whole numbers, X for others, on|off for a bool. A placeholder of FILE, DIR, PATH, RUN, MODEL or PATTERN marks a
/// path, which is not given twice by accident.
struct Help {
  const char* text;
  const char* placeholder;
  HelpVisibility visibility;
  Help(const char* help_text, const char* value = "", HelpVisibility help_visibility = HelpVisibility::kAuto)
      : text(help_text), placeholder(value), visibility(help_visibility) {}
};

/// A switch without a value on the command line: `--json`.
struct Flag {
  bool on = false;
  explicit operator bool() const { return on; }
};

/// One key of the program, bound to the variable that it sets.
struct Field {
  std::string key;  ///< "optim.peak_lr"; without a dot it is an option of one command
  std::string help;
  std::string placeholder;  ///< of its value: "FILE", "N", "on|off"; empty for a flag
  HelpVisibility visibility = HelpVisibility::kAuto;
  ResumePolicy resume_policy = ResumePolicy::kImmutable;
  std::string default_value;  ///< the default, as text
  int source_index = 0;  ///< which source set it last, counted from 1: files and flags as they were read; 0: none did
  bool is_set() const { return source_index > 0; }
  bool names_path() const;                                   ///< its placeholder is that of a path
  bool is_flag = false;                                      ///< takes no value
  bool is_list = false;                                      ///< takes several
  std::function<void(const std::vector<std::string>&)> set;  ///< Errors: Fault::kConfig naming key and value
  std::function<std::string()> get;
};

namespace config_detail {
void set(const std::string& key, const std::string& text, bool& value);
void set(const std::string& key, const std::string& text, int& value);
void set(const std::string& key, const std::string& text, std::int64_t& value);
void set(const std::string& key, const std::string& text, std::uint64_t& value);
void set(const std::string& key, const std::string& text, double& value);
void set(const std::string& key, const std::string& text, std::string& value);
std::string get(bool value);
std::string get(int value);
std::string get(std::int64_t value);
std::string get(std::uint64_t value);
std::string get(double value);
std::string get(const std::string& value);

template <class T>
constexpr const char* placeholder_of(const T&) {
  if constexpr (std::is_same_v<T, Flag>) return "";
  else if constexpr (std::is_same_v<T, bool>) return "on|off";
  else if constexpr (std::is_integral_v<T>) return "N";
  else if constexpr (std::is_floating_point_v<T>) return "X";
  else return "TEXT";
}
}  // namespace config_detail

/// Values by key, as text.
using Values = std::map<std::string, std::string>;

/// All keys a command understands. Structs are added, then files and flags are read; the last one wins.
///
///   Fields fields;
///   fields.add(optim);                       // OptimConfig::fields lists them
///   fields.read_file("run.ini");
///   fields.read_flags({"--optim.peak_lr", "1e-3"});
class Fields {
 public:
  /// `config` must outlive this object; its present values are the defaults.
  template <class Config>
  void add(Config& config) {
    Config::fields(
        config, [this](std::string key, auto& value, Help help, ResumePolicy resume_policy = ResumePolicy::kImmutable) {
          this->bind(std::move(key), value, help, resume_policy);
        });
  }

  /// Reads an INI file: `[section]`, `key = value`, and comments on lines of their own ('#' or ';'; a '#' inside a path
  /// stays).
  /// Errors   Fault::kConfig with file and line for unknown keys (naming the nearest known one) and bad values.
  void read_file(const std::filesystem::path& path);

  /// Reads `--key value`, `--key=value` and switches. The last of equal keys wins, but a path is given once.
  /// Errors   Fault::kConfig as read_file, and for a path that is given twice.
  void read_flags(const std::vector<std::string>& flags);

  /// Another name for a key on the command line: `--data` for `data.path`.
  void alias(const std::string& option, const std::string& key) { aliases_[option] = key; }

  /// Of keys that set the same thing in different units, the last one given wins: where a later source gives one,
  /// those of earlier sources are reset to their defaults.
  void unset_overridden(const std::vector<std::string>& keys);

  /// Sets one key from text, as a file would.
  void set(const std::string& key, const std::string& value);
  /// Reads values as one more source. Errors: Fault::kConfig naming `from` for unknown keys and bad values.
  void read_values(const Values& values, const std::string& source_description);
  /// Resets a key to its default, as if no source had set it.
  void unset(const std::string& key);
  /// Resets every key to its default.
  void unset_all();
  bool is_set(std::string_view key) const;
  bool has(std::string_view key) const;
  const Field& at(std::string_view key) const;

  std::span<const Field> all() const { return fields_; }
  Values values() const;           ///< every key with a section
  Values explicit_values() const;  ///< those that a source has set
  std::string to_ini() const;      ///< all of values()
  /// The given ones of `values`, in the order of the keys, in INI form.
  std::string to_ini(const Values& values) const;
  /// Flag, placeholder, meaning and default of each option: by section where `all`, else those that people need first.
  std::string to_help(bool show_all) const;

 private:
  template <class T>
  void bind(std::string key, T& value, const Help& help, ResumePolicy resume_policy) {
    Field field{.key = key,
                .help = help.text,
                .placeholder = help.placeholder,
                .visibility = help.visibility,
                .resume_policy = resume_policy};
    if (field.placeholder.empty()) field.placeholder = std::string(config_detail::placeholder_of(value));
    if constexpr (std::is_same_v<T, Flag>) {
      field.is_flag = true;
      field.set = [key, &value](const std::vector<std::string>& texts) {
        value.on = true;
        if (!texts.empty()) config_detail::set(key, texts.back(), value.on);
      };
      field.get = [&value] { return config_detail::get(value.on); };
    } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
      field.is_list = true;
      field.set = [&value, first = true](const std::vector<std::string>& texts) mutable {
        if (first) value.clear();
        first = false;
        value.insert(value.end(), texts.begin(), texts.end());
      };
      field.get = [&value] {
        std::string text;
        for (const std::string& item : value) text += (text.empty() ? "" : " ") + item;
        return text;
      };
    } else {
      field.set = [key, &value](const std::vector<std::string>& texts) {
        config_detail::set(key, texts.back(), value);
      };
      field.get = [&value] { return config_detail::get(value); };
    }
    field.default_value = field.get();
    fields_.push_back(std::move(field));
  }

  Field& find(std::string_view key, const std::string& quoted_key);
  std::string suggestion(std::string_view key, std::string_view dashes) const;
  std::vector<std::string> options_of(const Field& field) const;  ///< "data", "data.path"
  std::vector<Field> fields_;
  std::map<std::string, std::string> aliases_;
  int sources_ = 0;  ///< read so far
};

/// A hint for an error about a value of an INI file that seems to contain a comment; else empty.
std::string comment_hint(std::string_view value);

/// The known word nearest to `word` by edit distance; empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// Errors   Fault::kConfig, `KEY is VALUE; EXPECTED is expected`, unless `condition`.
template <class Value>
void check_value(bool condition, std::string_view key, const Value& value, std::string_view expected) {
  if (!condition) throw Error(Fault::kConfig, join(key, " is ", value, "; ", expected, " is expected"));
}

}  // namespace slipway
