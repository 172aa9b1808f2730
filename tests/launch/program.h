// SPDX-License-Identifier: Apache-2.0
// Runs the built program as a user does: arguments in, exit code and output back; and folders that vanish with the
// test.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace conclave::launch {

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline bool Contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = ::testing::TempDir() + "conclave launch XXXXXX";  // a blank: paths must survive one
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Outcome {
  int code = -1;  // exit code; -signal if a signal ended it
  std::string out, err;
};

// The program in the background, its output in files of `folder`; behind the words of a launcher, such as mpirun.
class Program {
 public:
  Program(const TemporaryFolder& folder, const std::vector<std::string>& arguments,
          const std::string& input = "/dev/null", const std::vector<std::string>& launcher = {})
      : out_(folder / "out"), err_(folder / "err") {
    std::vector<const char*> argv;
    for (const std::string& word : launcher) argv.push_back(word.c_str());
    argv.push_back(CONCLAVE_BINARY);
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setenv("XDG_CACHE_HOME", (folder / "cache").c_str(), 1);
    Redirect(input.c_str(), O_RDONLY, STDIN_FILENO);
    Redirect(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, STDOUT_FILENO);
    Redirect(err_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, STDERR_FILENO);
    ::execvp(argv[0], const_cast<char**>(argv.data()));
    ::_exit(127);
  }

  pid_t pid() const { return pid_; }
  void Signal(int number) const { ::kill(pid_, number); }

  Outcome Wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), ReadFile(out_), ReadFile(err_)};
  }

 private:
  static void Redirect(const char* path, int flags, int target) { ::dup2(::open(path, flags, 0666), target); }

  std::string out_, err_;
  pid_t pid_ = -1;
};

inline Outcome RunConclave(const TemporaryFolder& folder, const std::vector<std::string>& arguments) {
  return Program(folder, arguments).Wait();
}

// Waits until `condition` holds; false after half a minute.
template <class Condition>
bool WaitFor(Condition condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

}  // namespace conclave::launch
