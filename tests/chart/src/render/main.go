// Renders a chart as `helm template` does, with the libraries that Helm uses: Debian has them, and not
// Helm itself.
//
//	render.go CHART <CASES >RESULTS
//
// CASES is a JSON object: the name of a case, and the values of an operator. RESULTS has for each name
// either the rendered text by template, or the error.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"github.com/xeipuuv/gojsonschema"
	"sigs.k8s.io/yaml"
)

type values = map[string]interface{}

// chart is what Helm reads of a chart's directory.
type chart struct {
	metadata  metadata
	defaults  values
	schema    *gojsonschema.Schema
	templates map[string]string
	files     files
}

// metadata is `.Chart`.
type metadata struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	AppVersion string `json:"appVersion"`
	Type       string `json:"type"`
}

// files is `.Files`.
type files string

// Get returns a file of the chart; an empty text if there is none, as Helm does.
func (root files) Get(name string) string {
	content, err := os.ReadFile(filepath.Join(string(root), name))
	if err != nil {
		return ""
	}
	return string(content)
}

// versions is `.Capabilities.APIVersions`.
type versions []string

// Has says whether the cluster serves a version or a kind.
func (all versions) Has(name string) bool {
	for _, version := range all {
		if version == name {
			return true
		}
	}
	return false
}

type result struct {
	Texts map[string]string `json:"texts,omitempty"`
	Error string            `json:"error,omitempty"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: render.go CHART <CASES >RESULTS")
	}
	read, err := open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var cases map[string]values
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		log.Fatal(err)
	}
	results := map[string]result{}
	for name, given := range cases {
		texts, err := read.render(given)
		results[name] = result{Texts: texts}
		if err != nil {
			results[name] = result{Error: err.Error()}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		log.Fatal(err)
	}
}

func open(root string) (*chart, error) {
	read := &chart{files: files(root), templates: map[string]string{}}
	if err := yaml.UnmarshalStrict([]byte(read.files.Get("values.yaml")), &read.defaults); err != nil {
		return nil, fmt.Errorf("values.yaml: %w", err)
	}
	if err := yaml.Unmarshal([]byte(read.files.Get("Chart.yaml")), &read.metadata); err != nil {
		return nil, fmt.Errorf("Chart.yaml: %w", err)
	}
	schema, err := gojsonschema.NewSchema(gojsonschema.NewStringLoader(read.files.Get("values.schema.json")))
	if err != nil {
		return nil, fmt.Errorf("values.schema.json: %w", err)
	}
	read.schema = schema
	names, err := filepath.Glob(filepath.Join(root, "templates", "*"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		read.templates[filepath.Base(name)] = string(content)
	}
	return read, nil
}

// merge puts an operator's values over the defaults. A null takes a default away.
func merge(defaults, given values) values {
	merged := values{}
	for name, value := range defaults {
		merged[name] = value
	}
	for name, value := range given {
		below, isMap := value.(values)
		under, wasMap := merged[name].(values)
		switch {
		case value == nil:
			delete(merged, name)
		case isMap && wasMap:
			merged[name] = merge(under, below)
		default:
			merged[name] = value
		}
	}
	return merged
}

func (read *chart) render(given values) (map[string]string, error) {
	merged := merge(read.defaults, given)
	if err := read.check(merged); err != nil {
		return nil, err
	}
	// Helm renders missing values as nothing, too.
	root := template.New(read.metadata.Name).Option("missingkey=zero")
	root.Funcs(functions(root))
	for name, text := range read.templates {
		if _, err := root.New(name).Parse(text); err != nil {
			return nil, err
		}
	}
	scope := values{
		"Values": merged,
		"Chart":  read.metadata,
		"Files":  read.files,
		"Release": values{
			"Name": "kube-ipvs", "Namespace": "kube-system", "Service": "Helm",
			"IsInstall": true, "IsUpgrade": false, "Revision": 1,
		},
		"Capabilities": values{
			"KubeVersion": values{"Version": "v1.34.0", "Major": "1", "Minor": "34"},
			"APIVersions": versions{"v1", "apps/v1", "rbac.authorization.k8s.io/v1"},
		},
	}
	texts := map[string]string{}
	for name := range read.templates {
		if strings.HasPrefix(name, "_") {
			continue
		}
		text, err := execute(root, name, scope)
		if err != nil {
			return nil, err
		}
		texts[name] = text
	}
	return texts, nil
}

func (read *chart) check(merged values) error {
	checked, err := read.schema.Validate(gojsonschema.NewGoLoader(merged))
	if err != nil {
		return err
	}
	var wrong []string
	for _, problem := range checked.Errors() {
		wrong = append(wrong, problem.String())
	}
	if wrong != nil {
		return errors.New("values.schema.json: " + strings.Join(wrong, "; "))
	}
	return nil
}

func execute(root *template.Template, name string, scope interface{}) (string, error) {
	var text strings.Builder
	err := root.ExecuteTemplate(&text, name, scope)
	return strings.ReplaceAll(text.String(), "<no value>", ""), err
}

// functions are Sprig's and Helm's own.
func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	// Helm keeps its own environment from charts.
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, scope interface{}) (string, error) {
		return execute(root, name, scope)
	}
	all["tpl"] = func(text string, scope interface{}) (string, error) {
		copied, err := root.Clone()
		if err != nil {
			return "", err
		}
		if _, err := copied.New("tpl").Parse(text); err != nil {
			return "", err
		}
		return execute(copied, "tpl", scope)
	}
	all["required"] = func(message string, value interface{}) (interface{}, error) {
		if text, isText := value.(string); value == nil || isText && text == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	all["toYaml"] = func(value interface{}) (string, error) {
		text, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(text), "\n"), err
	}
	all["fromYaml"] = func(text string) (values, error) {
		var value values
		return value, yaml.Unmarshal([]byte(text), &value)
	}
	all["lookup"] = func(version, kind, namespace, name string) values { return values{} }
	return all
}
